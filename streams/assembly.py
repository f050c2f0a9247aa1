"""A deployment put together: decoder, models, codec and scorer of one state of it.

The worker and `penstock verify` both score with what is made here, so that what verifies is what scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.bundle import Bundle
from models.errors import ContractBroken
from models.routing import Router
from models.runtimes.base import Model
from models.runtimes.constant import Constant
from schemas.decode import EventDecoder
from schemas.deployment import ACTIVE, CONSTANT, Deployment
from schemas.inference import InferenceCodec, Lineage
from schemas.sources import SchemaFolder, SchemaRegistry, SchemaTopic, Writers
from schemas.values import OutputField
from streams.arms import Arms, Contender, Made
from streams.haste import Haste
from streams.pace import Slowdown
from streams.pool import Pool
from streams.runner import Runner
from streams.scorer import Alone, Scorer
from streams.topics import Topic, message_limit


def writers_of(topic: SchemaTopic, registry: str | None, folder: Path | None) -> Writers:
    """Return the sources of writers' schemas: the schema topic, and a registry (URL) and a folder where given."""
    return Writers(
        topic=topic,
        registry=SchemaRegistry(registry) if registry else None,
        folder=SchemaFolder(folder) if folder else None,
    )


@dataclass(frozen=True, slots=True)
class Assembly:
    """What scores the events of one deployment's state: decoder, codec, and the models by the names of their arms."""

    deployment: Deployment
    revision: int
    bundles: Mapping[str, Bundle]
    decoder: EventDecoder
    models: Mapping[str, Model]
    codec: InferenceCodec

    def scorer(
        self,
        output: Topic,
        name: str = ACTIVE,
        slowdowns: Mapping[str, Slowdown] = MappingProxyType({}),
        haste: Haste | None = None,
    ) -> Scorer:
        """Return the scorer of an arm's workers for an output topic. One thread at a time uses it.

        slowdowns: of the arms' models, told what their runs take. haste: asks for the batch in hand to be given up.
        """
        shares = self.shares(name)
        contenders = {each: Contender(each, self._runner(each, slowdowns.get(each), haste)) for each in self.models}
        chains = {each: [contenders[step] for step in self.deployment.chain(each)] for each in shares}
        router = Router(shares, self.deployment.salt or self.deployment.name) if len(shares) > 1 else None
        everywhere = [contenders[each] for each in self.deployment.everywhere] if name == ACTIVE else []
        return self._scorer(output, Arms(chains, router, everywhere))

    def shares(self, name: str) -> dict[str, float]:
        """Return what percentage of the events the workers of an arm assign to whom."""
        return self.deployment.shares() if name == ACTIVE else {name: 100.0}

    def alone(self, output: Topic, made: Made) -> Scorer:
        """Return a scorer of one arm's model only, whose inferences say what `made` says."""
        return self._scorer(output, Alone(self._runner(made.arm), made))

    def _runner(self, name: str, slowdown: Slowdown | None = None, haste: Haste | None = None) -> Runner:
        ran, pace = (slowdown.ran, slowdown.pace) if slowdown is not None else (None, None)
        return Runner(self.models[name], self.deployment.limits.model_seconds, ran=ran, pace=pace, haste=haste)

    def _scorer(self, output: Topic, arms: Arms | Alone) -> Scorer:
        deployment = self.deployment
        lineage = Lineage(
            deployment=deployment.name,
            revision=self.revision,
            arm="",
            model="",
            version="",
            event_schema="",
            source_topic=deployment.input.topic,
        )
        return Scorer(
            self.decoder,
            arms,
            self.codec,
            lineage,
            event_time=deployment.input.event_time,
            echo=deployment.output.echo,
            inference_bytes=message_limit([output]),
        )


def assemble(
    deployment: Deployment,
    reader: Mapping[str, Any],
    bundles: Mapping[str, Bundle],
    writers: Writers,
    pool: Pool,
    revision: int | None = None,
    decoder: EventDecoder | None = None,
) -> Assembly:
    """Load the bundles for the deployment's events.

    reader: the event schema that the deployment reads. bundles: by the names of their arms, all of which write to one
    topic. The constant of the fallback chain comes with them. pool: owns the models. revision: None for that of a
    declaration in a file. decoder: one of the same events; None: a new one.
    Raises an error of models or schemas when bundles, schema and declaration do not fit each other.
    """
    decoder = decoder or EventDecoder(
        reader,
        writers=writers,
        framing=deployment.input.framing,
        checks=deployment.input.checks,
        event_bytes=deployment.limits.event_bytes,
    )
    models = _models(deployment, bundles, decoder.columns, pool)
    echo = [(name, decoder.columns[name]) for name in deployment.output.echo]
    codec = InferenceCodec(deployment.name, next(iter(models.values())).outputs, echo)
    number = deployment.revision(reader) if revision is None else revision
    return Assembly(deployment, number, bundles, decoder, models, codec)


def _models(
    deployment: Deployment, bundles: Mapping[str, Bundle], columns: Mapping[str, Any], pool: Pool
) -> dict[str, Model]:
    missing, memory = deployment.missing, deployment.limits.model_memory
    models = {name: pool.load(bundle, columns, missing, memory) for name, bundle in bundles.items()}
    first, outputs = next((name, model.outputs) for name, model in models.items())
    if other := next((name for name, model in models.items() if model.outputs != outputs), None):
        raise ContractBroken(
            [
                f"arms {first} and {other} write to one topic, but their outputs differ: {_told(outputs)}; "
                f"{_told(models[other].outputs)}. Give the new model the same outputs, or try it as a shadow first"
            ]
        )
    if deployment.constant is not None and not any(map(deployment.is_shadow, bundles)):
        models[CONSTANT] = Constant(outputs, deployment.constant)
    return models


def _told(outputs: Sequence[OutputField]) -> str:
    return ", ".join(
        f"{each.name}: {each.kind} {each.avro}{' of ' + ', '.join(each.classes) if each.classes else ''}"
        for each in outputs
    )

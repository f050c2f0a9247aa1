"""A deployment put together: the names it goes by in Kafka, and decoder, model, codec and scorer of one model version.

The worker and `penstock verify` both score with what is made here, so that what verifies is what scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.runtimes.base import Model
from models.runtimes.onnx import load
from schemas.decode import EventDecoder
from schemas.deployment import Arm, Deployment
from schemas.inference import InferenceCodec, Lineage
from schemas.sources import SchemaFolder, SchemaRegistry, SchemaTopic, Writers
from streams.errors import Refused
from streams.scorer import Scorer
from streams.topics import Topic, message_limit


def arm_of(deployment: Deployment, role: str) -> Arm:
    """Return the declared arm of a role that has a worker of its own. Raises Refused naming those there are."""
    found = [arm for arm in deployment.arms if arm.role == role]
    if not found:
        declared = ", ".join(arm.role for arm in deployment.arms)
        raise Refused(f"deployment {deployment.name} declares no arm {role!r}; its arms are {declared}")
    if role not in ("active", "shadow"):
        raise Refused(f"arm {role!r} has no worker of its own; run --arm active or --arm shadow")
    return found[0]


def group_of(deployment: Deployment, arm: Arm) -> str:
    """Return the consumer group of an arm."""
    return deployment.group(arm.role)


def output_topic(deployment: Deployment, arm: Arm) -> str:
    """Return where the arm's inferences go."""
    return arm.topic if arm.role == "shadow" and arm.topic else deployment.output.topic


def letter_topic(deployment: Deployment, arm: Arm) -> str:
    """Return where dead letters go: a shadow's go to a topic of its own, or each event would have two."""
    topic = deployment.dead_letter_topic
    return topic if arm.role != "shadow" else f"{topic}.shadow"


def writers_of(topic: SchemaTopic, registry: str | None, folder: Path | None) -> Writers:
    """Return the sources of writers' schemas: the schema topic, and a registry (URL) and a folder where given."""
    return Writers(
        topic=topic,
        registry=SchemaRegistry(registry) if registry else None,
        folder=SchemaFolder(folder) if folder else None,
    )


@dataclass(frozen=True, slots=True)
class Assembly:
    """What scores the events of one deployment's state with one model version."""

    deployment: Deployment
    revision: int
    arm: Arm
    bundle: Bundle
    decoder: EventDecoder
    model: Model
    codec: InferenceCodec

    def scorer(self, output: Topic) -> Scorer:
        """Return the scorer whose inferences fit the output topic; one thread at a time uses it."""
        deployment = self.deployment
        lineage = Lineage(
            deployment=deployment.name,
            revision=self.revision,
            arm=self.arm.role,
            model=self.model.name,
            version=self.model.version,
            event_schema="",
            source_topic=deployment.input.topic,
        )
        return Scorer(
            self.decoder,
            self.model,
            self.codec,
            lineage,
            event_time=deployment.input.event_time,
            echo=deployment.output.echo,
            model_seconds=deployment.limits.model_seconds,
            inference_bytes=message_limit([output]),
        )


def assemble(deployment: Deployment, arm: Arm, reader: Mapping[str, Any], bundle: Bundle, writers: Writers) -> Assembly:
    """Load the bundle for the deployment's events; `reader` is the event schema that the deployment reads.

    Raises an error of models or schemas when bundle, schema and declaration do not fit each other.
    """
    decoder = EventDecoder(
        reader,
        writers=writers,
        framing=deployment.input.framing,
        checks=deployment.input.checks,
        event_bytes=deployment.limits.event_bytes,
    )
    model = load(bundle, decoder.columns, deployment.missing)
    echo = [(name, decoder.columns[name]) for name in deployment.output.echo]
    try:
        codec = InferenceCodec(deployment.name, model.outputs, echo)
    except BaseException:
        model.close()
        raise
    return Assembly(deployment, deployment.revision(reader), arm, bundle, decoder, model, codec)

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
from streams.scorer import Scorer
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
    model = load(bundle, decoder.columns, deployment.missing, memory=deployment.limits.model_memory)
    echo = [(name, decoder.columns[name]) for name in deployment.output.echo]
    try:
        codec = InferenceCodec(deployment.name, model.outputs, echo)
    except BaseException:
        model.close()
        raise
    return Assembly(deployment, deployment.revision(reader), arm, bundle, decoder, model, codec)

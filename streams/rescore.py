"""A rescore: past events of a deployment, scored by another version into a topic of its own.

What it is made of is decided here: which events, which topics, and the scorer, put together as for a worker. The same
rescore asked for again is known by its consumer group, and goes on where the first one ended.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from models.bundle import Bundle
from models.repository import Repository
from schemas.deployment import ACTIVE, Deployment
from schemas.reserved import is_reserved
from schemas.sources import SchemaTopic
from streams.arms import Made
from streams.assembly import Assembly, assemble, writers_of
from streams.building import Wanted, make_findable
from streams.errors import Refused
from streams.guarantees import Promise, uphold
from streams.pool import Pool
from streams.quarantine import Quarantine, QuarantineTopic
from streams.reading import Point, TopicReader
from streams.scorer import Scorer
from streams.site import FRAMING
from streams.stretch import Stretch, stretch_of
from streams.topics import OVERHEAD, Topic, Topics
from streams.work import Composer, Route

log = logging.getLogger(__name__)

ROLE = "rescore"  # the arm that its inferences name
NAMED = 8  # characters of a version and of a digest in names


@dataclass(frozen=True, slots=True)
class Options:
    """model: a reference to the version that scores. begin, end: of the range. output: None for a topic named after it.

    partial: go on although retention has removed events of the range.
    """

    kafka: Mapping[str, str]
    repository: str
    model: str
    begin: Point
    end: Point
    output: str | None = None
    partial: bool = False
    registry: str | None = None
    schema_folder: Path | None = None
    state_folder: Path = Path(".penstock")
    batch_events: int = 2_000


@dataclass(slots=True)
class Report:
    """What a rescore is and what became of it.

    ranges: as told by `Stretch`. options: name the same range again. earlier: offsets that earlier runs had done.
    events, inferences, reasons: what this run committed, dead letters by reason. lost: events that retention removed,
    at most. done: the whole range is committed. notes: what of the range that was asked for is not in it.
    """

    deployment: str
    revision: int
    model: str
    version: str
    source: str
    output: str
    dead_letters: str
    group: str
    ranges: list[str]
    options: str
    earlier: int = 0
    events: int = 0
    inferences: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    done: bool = False
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Errand:
    """A rescore that can run. bundle: of the version that scores; assembly: with it loaded."""

    wanted: Wanted
    stretch: Stretch
    group: str
    output: Topic
    letters: Topic
    bundle: Bundle
    assembly: Assembly
    scorer: Scorer
    composer: Composer
    quarantine: Quarantine

    def report(self) -> Report:
        """Return the report of a run that has done nothing yet."""
        manifest = self.bundle.manifest
        return Report(
            self.wanted.deployment.name,
            self.wanted.revision,
            manifest.name,
            manifest.version,
            self.stretch.topic,
            self.output.name,
            self.letters.name,
            self.group,
            [str(each) for each in self.stretch.told()],
            self.stretch.options(),
            notes=self.stretch.notes(),
        )


class Desk:
    """Makes an errand, and owns what it is made of."""

    def __init__(self, options: Options) -> None:
        self._options, self._topics = options, Topics(options.kafka)
        self.schemas = SchemaTopic(options.kafka)
        self._pool = Pool()

    def errand(self, wanted: Wanted, stopping: Callable[[], bool]) -> Errand:
        """Return the rescore of a deployment's events that the options ask for; its topics are made.

        Raises Refused, or an error of models or schemas.
        """
        options, deployment = self._options, wanted.deployment
        bundle = Repository(options.repository).load(options.model)
        source = self._topics.require(deployment.input.topic)
        stretch = self._stretch(source.name)
        key = key_of(wanted, bundle.digest, stretch, options.output)
        name = f"{deployment.name}.{ROLE}.{bundle.manifest.version[:NAMED]}-{key}"
        refuse_taken(deployment, options.output or name)
        writers = writers_of(self.schemas, options.registry, options.schema_folder)
        bare = deployment.model_copy(update={"fallback": []})  # nobody steps in: what the version says is asked
        assembly = assemble(bare, wanted.reader, {ROLE: bundle}, writers, self._pool, wanted.revision)
        output = self._topics.ensure(options.output or name, source.partitions)
        limit = {"max.message.bytes": str(source.message_bytes + OVERHEAD)}
        letters = self._topics.ensure(f"{output.name}.dead-letters", source.partitions, limit)
        group = f"penstock.{name}"
        uphold(
            self._topics.admin,
            Promise(
                options.kafka["bootstrap.servers"],
                group,
                classic=True,
                exactly_once=True,
                source=source.name,
                outputs=[output.name, letters.name],
                letters=letters.name,
            ),
        )
        make_findable(self.schemas, assembly.codec.schema, stopping)
        made = Made(ROLE, ROLE, 1.0, "", bundle.manifest.name, bundle.manifest.version)
        return Errand(
            wanted,
            stretch,
            group,
            output,
            letters,
            bundle,
            assembly,
            assembly.alone(output, made),
            Composer(_route(deployment.name, source, output, letters)),
            self._quarantine(deployment),
        )

    def close(self) -> None:
        """Let go of models and clients."""
        self._pool.close()
        self.schemas.close()

    def _stretch(self, topic: str) -> Stretch:
        options = self._options
        reader = TopicReader(options.kafka, f"penstock.{ROLE}")
        try:
            stretch = stretch_of(reader, topic, options.begin, options.end)
        finally:
            reader.close()
        if stretch.cut and not options.partial:
            raise Refused(cut_text(topic, stretch.cut))
        return stretch

    def _quarantine(self, deployment: Deployment) -> Quarantine:
        """Return the events that kill workers: they are not scored here either, but become dead letters."""
        try:
            found = QuarantineTopic(self._options.kafka).read(deployment.group(ACTIVE))
        except KafkaException as error:
            raise Refused(f"the quarantine cannot be read: {error.args[0].str()}; try again") from error
        return Quarantine(each.range for each in found if each.range.topic == deployment.input.topic)


def key_of(wanted: Wanted, digest: str, stretch: Stretch, output: str | None) -> str:
    """Return what tells a rescore from those of other events, declarations or models, and into other topics."""
    told: list[Any] = [
        wanted.deployment.name,
        wanted.revision,
        stretch.topic,
        sorted((p, *span) for p, span in stretch.ranges.items()),
        digest,
        output,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:NAMED]


def refuse_taken(deployment: Deployment, output: str) -> None:
    """Raise Refused for a topic that the deployment or control reads or writes: its readers take what they find."""
    arms = [ACTIVE, *deployment.everywhere, *(name for name in deployment.named if deployment.is_shadow(name))]
    taken = {deployment.input.topic, deployment.profile_topic, deployment.sample_topic}
    taken |= {deployment.labels.topic} if deployment.labels is not None else set()
    taken |= {topic for arm in arms for topic in (deployment.output_topic(arm), deployment.dead_letter_topic(arm))}
    if output in taken or f"{output}.dead-letters" in taken or is_reserved(output):
        raise Refused(
            f"{output} is a topic of deployment {deployment.name}, or one of Penstock's or Kafka's own (penstock., "
            "__), whose readers must not see a rescore: name another one with --output, or none"
        )


def cut_text(topic: str, left: Mapping[int, int]) -> str:
    """Return the words for a range of which retention removed the beginning. left: the first offset that is there."""
    places = ", ".join(f"{topic}/{partition} from offset {low} on" for partition, low in sorted(left.items()))
    return (
        f"retention has removed events of {topic}, and those of the range may be among them; what is left: {places}. "
        "Add --partial to rescore that, or name a later --from"
    )


def _route(deployment: str, source: Topic, output: Topic, letters: Topic) -> Route:
    return Route(
        deployment=deployment,
        source=source.name,
        source_count=source.partitions,
        output=output.name,
        output_count=output.partitions,
        dead_letters=letters.name,
        dead_letter_count=letters.partitions,
        letter_bytes=letters.message_bytes - FRAMING,
    )

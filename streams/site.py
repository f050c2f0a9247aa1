"""Where a worker reads and writes: what needs new clients when it changes, and what all plans of one site share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from schemas.deployment import Deployment
from streams.control import TOPICS
from streams.errors import Refused
from streams.guarantees import Promise, uphold
from streams.membership import is_classic
from streams.metrics import WorkerMetrics
from streams.options import Options
from streams.progress import Progress, Target, inference_origin, letter_origin
from streams.sink import AcknowledgedSink, TransactionalSink
from streams.source import KafkaSource
from streams.starts import Hooks
from streams.topics import OVERHEAD, Topic, Topics
from streams.work import Route

FRAMING = 512  # bytes at most that a record batch of one record adds to its value, key and headers
SAMPLES_KEPT = 7 * 86_400  # seconds at least: the brokers' own default
Sink = TransactionalSink | AcknowledgedSink


@dataclass(frozen=True, slots=True)
class Site:
    """group: of the arm's workers. delivery, start: as the deployment declares them. swaps: None without control.

    beside: topics of the dead letters of arms that score every event beside the others, by the arm's name.
    """

    group: str
    delivery: str
    start: str
    source: Topic
    output: Topic
    letters: Topic
    profiles: Topic | None
    swaps: Topic | None
    samples: Topic | None = None
    beside: Mapping[str, Topic] = field(default_factory=dict)

    @property
    def targets(self) -> list[Topic]:
        """The topics that take the events' records, and those of their profiles and samples."""
        watched = [topic for topic in (self.profiles, self.samples) if topic is not None]
        return [self.output, self.letters, *self.beside.values(), *watched]

    def route(self, deployment: str) -> Route:
        """Return where a deployment's records go."""
        return Route(
            deployment=deployment,
            source=self.source.name,
            source_count=self.source.partitions,
            output=self.output.name,
            output_count=self.output.partitions,
            dead_letters=self.letters.name,
            dead_letter_count=self.letters.partitions,
            profiles=self.profiles.name if self.profiles else None,
            samples=self.samples.name if self.samples else None,
            letter_bytes=min(each.message_bytes for each in (self.letters, *self.beside.values())) - FRAMING,
            beside={name: topic.name for name, topic in self.beside.items()},
        )

    def connector(
        self, deployment: str, slot: str, options: Options, metrics: WorkerMetrics
    ) -> Callable[[Callable[[], None]], tuple[KafkaSource, Sink]]:
        """Return what makes the clients of a slot."""
        kind = TransactionalSink if self.delivery == "exactly_once" else AcknowledgedSink

        def connect(revoked: Callable[[], None]) -> tuple[KafkaSource, Sink]:
            source = KafkaSource(
                {**options.kafka, **options.member},
                self.source.name,
                self.group,
                slot,
                start=self.start,
                hooks=Hooks(revoked, metrics.lost, metrics.rescored, metrics.skipped),
                reached=self._progress(deployment, options),
                backlog=metrics.backlog,
            )
            limits = [target.message_bytes for target in self.targets]
            sink = kind(
                options.kafka, f"{self.group}.{slot}", source, message_bytes=max(limits), batch_bytes=min(limits)
            )
            return source, sink

        return connect

    def _progress(self, deployment: str, options: Options) -> Progress:
        """Return what tells how far the arm's records had got."""

        def count(topic: Topic) -> int | None:
            return topic.partitions if topic.partitions == self.source.partitions else None

        targets = [
            Target(self.output.name, count(self.output), inference_origin),
            Target(self.letters.name, count(self.letters), letter_origin),
        ]
        return Progress(options.kafka, self.group, deployment, self.source.name, targets)


def site_of(deployment: Deployment, arm: str, options: Options, topics: Topics, *, controlled: bool) -> Site:
    """Return the site of an arm's workers, its topics made where they are missing. Raises Refused."""
    source = topics.require(deployment.input.topic)
    output = topics.ensure(deployment.output_topic(arm), source.partitions)
    limit = {"max.message.bytes": str(source.message_bytes + OVERHEAD)}
    letters = topics.ensure(deployment.dead_letter_topic(arm), source.partitions, limit)
    swaps = topics.ensure(TOPICS.swaps, 1, TOPICS.settings()[TOPICS.swaps]) if controlled else None
    everywhere = [] if deployment.is_shadow(arm) else deployment.everywhere
    beside = {each: topics.ensure(deployment.dead_letter_topic(each), letters.partitions, limit) for each in everywhere}
    site = Site(
        group=deployment.group(arm),
        delivery=deployment.delivery,
        start=deployment.input.start,
        source=source,
        output=output,
        letters=letters,
        profiles=topics.ensure(deployment.profile_topic, 1) if deployment.monitor is not None else None,
        swaps=swaps,
        samples=_samples(deployment, topics),
        beside=beside,
    )
    uphold(
        topics.admin,
        Promise(
            options.kafka["bootstrap.servers"],
            site.group,
            classic=is_classic(options.member),
            exactly_once=site.delivery == "exactly_once",
            source=source.name,
            outputs=[target.name for target in site.targets],
            letters=letters.name,
            kept=_kept(deployment),
        ),
    )
    return site


def _kept(deployment: Deployment) -> dict[str, int]:
    """Return for how long a monitor needs samples, in ms, where labels wait for them."""
    return {} if deployment.labels is None else {deployment.sample_topic: 2000 * deployment.labels.within}


def _samples(deployment: Deployment, topics: Topics) -> Topic | None:
    """Return the topic of samples, made where it is missing; None where there are none.

    What a label may wait for must still be there when the monitor reads it again. Raises Refused where the topic has
    other partitions than declared: a key would not meet its label.
    """
    if deployment.sampling is None:
        return None
    _, partitions = deployment.sampling
    within = deployment.labels.within if deployment.labels is not None else 0
    kept = max(SAMPLES_KEPT, 2 * within) * 1000
    topic = topics.ensure(deployment.sample_topic, partitions, {"retention.ms": str(kept)})
    if topic.partitions != partitions:
        raise Refused(
            f"topic {topic.name} has {topic.partitions} partitions, but labels.partitions is {partitions}: declare "
            f"{topic.partitions}, for samples find their labels only while the number stays as it is"
        )
    return topic

"""What a monitor folds for a deployment: its profiles, and where labels or segments are declared their quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from monitoring.comparing import Comparing
    from monitoring.copying import CopyFold
    from monitoring.formulas import Formula
    from monitoring.join_state import Joining
    from monitoring.profiles import ProfileFold
    from monitoring.quality import Judging
    from monitoring.references import Bundles
    from monitoring.retraining import Asking
    from monitoring.setup import Quality, Topics, Wiring
    from monitoring.sources import Source
    from schemas.decode import Writers
    from schemas.deployment import Deployment, Monitor
    from schemas.labels import Labels


def quality_of(declared: Deployment) -> Quality | None:
    """Return the topics of a deployment's quality; None where nothing is sampled."""
    from monitoring.setup import Quality

    if declared.sampling is None:
        return None
    if declared.labels is None:
        return Quality(declared.sample_topic, declared.quality_topic)
    letters = declared.label_letters_topic
    topics = declared.sample_topic, declared.quality_topic, declared.labels.topic, letters, declared.rewards_topic
    return Quality(*topics)


def writers_of(kafka: dict[str, str], registry: str | None, folder: Path | None) -> Writers:
    """Return where the schemas of labels are found."""
    from schemas.topic import SchemaTopic
    from streams.assembly import writers_of as found

    return found(SchemaTopic(kafka), registry, folder)


def sources_of(
    declared: Deployment,
    wiring: Wiring,
    topics: Topics,
    fold: ProfileFold,
    writers: Writers,
    models: Bundles | None = None,
) -> list[Source]:
    """Return what is folded, by topic. models: where bundles are found, which state how good versions are.

    Raises SchemaRefused for labels that cannot be read.
    """
    from monitoring.joining import JoinFold
    from monitoring.quality import QualityFold
    from monitoring.sources import PROFILES, Source

    sources = [Source(PROFILES, wiring.profiles, fold, topics.profiles)]
    if wiring.quality is None or declared.sampling is None or declared.monitor is None:
        return sources
    samples, labels = topics.read[wiring.quality.samples], declared.labels
    if labels is not None:
        copying = _copying(declared, labels, wiring.quality, samples, writers)
        sources.append(Source("labels", labels.topic, copying, topics.read[labels.topic], "always"))
    joining = joining_of(declared, wiring.quality, topics.read.get(wiring.quality.labels, 0))
    sources.append(Source("samples", wiring.quality.samples, JoinFold(joining), samples, "never"))
    within = labels.within if labels is not None else 0
    judging = judging_of(declared, declared.monitor, samples, within, wiring, models)
    return [*sources, Source("quality", wiring.quality.quality, QualityFold(judging), 1)]


def topics_beside(declared: Deployment) -> tuple[str, str]:
    """Return the topics of comparisons and of requests for retraining; empty where nothing is told."""
    from monitoring import comparing, retraining

    asks = declared.monitor is not None and declared.monitor.retrain_after is not None
    return comparing.TOPIC, retraining.TOPIC if asks else ""


def comparing_of(wiring: Wiring) -> Comparing | None:
    """Return how versions that take over are compared; None where there is no topic for it."""
    from monitoring.comparing import Comparing

    return Comparing(wiring.deployment, wiring.comparisons) if wiring.comparisons else None


def asking_of(declared: Deployment, wiring: Wiring) -> Asking | None:
    """Return when a new version is asked for; None for never."""
    from monitoring.retraining import Asking

    after = declared.monitor.retrain_after if declared.monitor is not None else None
    if after is None or not wiring.retraining:
        return None
    labels = declared.labels.topic if declared.labels is not None else ""
    return Asking(declared.name, after * 1000, declared.input.topic, labels, wiring.retraining)


def judging_of(
    declared: Deployment, asked: Monitor, partitions: int, within: int, wiring: Wiring, models: Bundles | None = None
) -> Judging:
    """Return how quality is judged. partitions: of the topic of samples. models: where bundles are found."""
    from monitoring.outcomes import Usual
    from monitoring.quality import Judging
    from monitoring.references import Stated

    effect = None if asked.design_effect == "learned" else float(asked.design_effect)
    quality = asked.quality
    usual = Usual(None if isinstance(quality.errors, str) else quality.errors, quality.first, quality.worse)
    return Judging(
        declared.name,
        partitions,
        within,
        asked.false_alarms,
        effect,
        wiring.alerts,
        usual,
        stated=Stated(models) if quality.errors == "bundle" and models is not None else None,
        silent=quality.labels_silent,
        divergence=quality.divergence,
        scores=quality.scores,
        comparing=comparing_of(wiring),
        asking=asking_of(declared, wiring),
        groups=tuple(asked.fairness),
    )


def joining_of(declared: Deployment, quality: Quality, partitions: int) -> Joining:
    """Return how samples and labels are joined. partitions: of the topic of labels, 0 without labels."""
    from monitoring.join_state import Joining

    labels = declared.labels
    if labels is None:
        return Joining(declared.name, quality.quality, within=600)
    return Joining(
        declared.name,
        quality.quality,
        labels.within,
        labels.output,
        labels.task,
        _kind(labels),
        tuple(labels.numbers),
        partitions,
        labels.error_range,
        fields=tuple(labels.fields),
        outputs=tuple(labels.outputs),
        formulas=_formulas(labels),
        rewards=quality.rewards,
    )


def _formulas(labels: Labels) -> tuple[Formula, ...]:
    from monitoring.formulas import Formula

    fields, outputs = (*labels.numbers, *labels.fields), tuple(labels.outputs)
    return tuple(
        Formula(name, metric.expression, labels.value, fields, outputs, metric.min, metric.max)
        for name, metric in sorted(labels.metrics.items())
    )


def _copying(declared: Deployment, labels: Labels, quality: Quality, samples: int, writers: Writers) -> CopyFold:
    from monitoring.copying import CopyFold, Copying
    from schemas.decode import EventDecoder

    decoder = EventDecoder(labels.reader, writers=writers, framing=labels.framing)
    numbers = (*labels.numbers, *labels.fields)
    copying = Copying(
        declared.name, labels.topic, quality.samples, quality.letters, labels.value, numbers, labels.share, samples
    )
    return CopyFold(copying, decoder.decode)


def _kind(labels: Labels) -> str:
    """Return the kind of the truth: boolean, text or double."""
    kind = labels.kind
    return kind if kind == "boolean" else "text" if kind in ("string", "enum") else "double"

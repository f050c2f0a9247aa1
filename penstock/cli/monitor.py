"""`penstock monitor`: watch a deployment's profiles and publish alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import (
    log_format_option,
    metrics_host_option,
    refusals,
    registry_option,
    repository_option,
    schemas_option,
    servers_option,
)

if TYPE_CHECKING:
    from models.reference import Reference
    from models.repository import Repository
    from monitoring.profiles import ProfileFold
    from monitoring.settings import Settings
    from monitoring.setup import Topics, Wiring
    from monitoring.sources import Source
    from schemas.control import State
    from schemas.deployment import Deployment

AGAIN = 70  # exit status: start it again
End = Callable[[str, int], object]  # ends the process: why, and with which exit status


@click.command()
@click.argument("deployment", metavar="NAME|FILE")
@click.option("--slot", default="0", show_default=True, help="Stable identity of this process among the monitors.")
@servers_option
@repository_option
@registry_option
@schemas_option
@click.option("--alerts-topic", default="penstock.alerts", show_default=True)
@click.option("--snapshots-topic", default="penstock.monitor", show_default=True)
@click.option("--metrics-port", type=int, help="Serve /metrics on this port (0: a free one).")
@metrics_host_option
@click.option(
    "--forget",
    type=click.Choice(["profiles", "labels", "samples", "quality"]),
    multiple=True,
    help="Void the snapshots of what is folded, then end: the next start begins with what the topics still hold.",
)
@click.option("--oracle", is_flag=True, help="Run the same folds without Faust, in Kafka transactions.")
@log_format_option
def command(
    deployment: str,
    slot: str,
    bootstrap_servers: str | None,
    repository: str | None,
    registry: str | None,
    schema_folder: Path | None,
    alerts_topic: str,
    snapshots_topic: str,
    metrics_port: int | None,
    metrics_host: str,
    forget: tuple[str, ...],
    oracle: bool,
    log_format: str,
) -> None:
    """Compare the live traffic of a deployment with its references and publish alerts until told to stop.

    Where labels are declared, they are joined with the predictions (`penstock quality` shows what comes of it).

    NAME is that of a deployment under control (`penstock apply`), FILE a YAML file. The reference of a version is
    fetched when its first profile comes, so a swap needs no restart. It may be killed at any time: started again, it
    goes on from its last snapshot and publishes the same alerts.
    Exit status: 0 stopped by a signal, or the deployment was removed from control, 2 refused (the message says what to
    change), 3 another monitor has the slot, 70 and 71 start it again, 78 the installed Faust or aiokafka does not fit.
    """
    from contextlib import closing

    from models.repository import Repository
    from monitoring.setup import Wiring, prepare
    from penstock.config import STATE_FOLDER, kafka_settings, repository_url
    from penstock.logs import set_up
    from penstock.watching import quality_of, sources_of, topics_beside, writers_of
    from streams.slot import SlotLock

    with refusals():
        kafka = kafka_settings(bootstrap_servers)
        watched = watched_of(deployment, kafka)
        declared = watched.deployment
        set_up(log_format, {"deployment": declared.name, "monitor": slot})
        comparisons, retraining = topics_beside(declared)
        wiring = Wiring(
            deployment=declared.name,
            profiles=declared.profile_topic,
            input=declared.input.topic,
            kafka=kafka,
            slot=slot,
            alerts=alerts_topic,
            snapshots=snapshots_topic,
            quality=quality_of(declared),
            comparisons=comparisons,
            retraining=retraining,
        )
        with closing(SlotLock(STATE_FOLDER / "slots", f"{wiring.group}.{slot}")):
            models = Repository(repository_url(repository))
            found = {} if watched.state else references(declared, models)  # those of control were checked by `apply`
            _check_weights(declared, found)
            topics = prepare(wiring)
            fold = fold_of(declared, found, topics.sources, wiring, models)
            sources = sources_of(declared, wiring, topics, fold, writers_of(kafka, registry, schema_folder), models)
            if forget:
                _forget(wiring, topics, [source for source in sources if source.role in forget])
                return
            _run(wiring, topics, sources, watched if watched.state else None, oracle, metrics_host, metrics_port)


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched. state: of control, None where a file declares it."""

    deployment: Deployment
    state: State | None = None

    def differs(self, state: State) -> str:
        """Return what of a newer state needs a monitor that starts anew; empty where nothing does."""
        from schemas.errors import RecordInvalid

        try:
            declared, _ = state.content()
        except RecordInvalid:  # of a newer release
            return ""
        if declared.input.topic != self.deployment.input.topic:
            return "its input topic"
        if declared.labels != self.deployment.labels:
            return "its labels"
        if (declared.latency_ms is None) != (self.deployment.latency_ms is None):
            return "whether latency is watched"
        return "its monitor" if declared.monitor != self.deployment.monitor else ""


def watched_of(text: str, kafka: Mapping[str, str]) -> Watched:
    """Return what a YAML file declares, or what control has under a name. Raises ConfigError without a monitor."""
    from penstock.config import load_deployment, names_file
    from penstock.errors import ConfigError
    from streams import control

    if names_file(text):
        watched = Watched(load_deployment(text).deployment)
    else:
        states = control.read(kafka).states
        if text not in states:
            there = ", ".join(sorted(states)) or "none"
            raise ConfigError(f"{text} is neither a YAML file nor a deployment under control, which has {there}")
        watched = Watched(states[text].content()[0], states[text])
    if watched.deployment.monitor is None:
        raise ConfigError(f"{text}: declares no monitor, so its workers profile nothing; add `monitor: {{}}`")
    return watched


def references(declared: Deployment, models: Repository) -> Mapping[str, Reference]:
    """Return the references of a file's models by digest.

    Raises ModelError when the repository lacks a model, or the active one has no reference.
    """
    import logging

    from models.errors import ReferenceInvalid
    from models.reference import Reference
    from schemas.deployment import ACTIVE

    found = {}
    for name, model in declared.references.items():
        bundle = models.load(model)
        if bundle.reference is not None:
            reference = Reference.from_bytes(bundle.reference)
            found[reference.digest] = reference
            continue
        text = (
            f"{model} has no reference profile: make one with `penstock reference build` and put it in with `penstock "
            "reference attach`, or build its bundle with one (models.reference.Reference.from_frame)"
        )
        if name == ACTIVE:
            raise ReferenceInvalid(text)
        logging.getLogger(__name__).warning("%s; the arm %s is not watched", text, name)
    return found


def fold_of(
    declared: Deployment, found: Mapping[str, Reference], sources: int, wiring: Wiring, models: Repository
) -> ProfileFold:
    """Return the fold that the deployment's declaration asks for."""
    from monitoring.profiles import ProfileFold
    from monitoring.references import Finder
    from penstock.watching import asking_of, comparing_of

    settings, find = settings_of(declared), Finder(models)
    beside = comparing_of(wiring), asking_of(declared, wiring)
    return ProfileFold(declared.name, found, sources, settings, wiring.alerts, find, *beside)


def settings_of(declared: Deployment) -> Settings:
    """Return how a deployment's profiles are judged."""
    from monitoring.settings import Settings
    from monitoring.tilts import Zone
    from schemas.deployment import Monitor

    watched = declared.monitor or Monitor()
    return Settings(
        detector=watched.detector,
        false_alarms=watched.false_alarms,
        budget=watched.budget,
        weights=watched.weights,
        arms=len(declared.references),
        design_effect=None if watched.design_effect == "learned" else float(watched.design_effect),
        zone=Zone(watched.zone, watched.zone_share),
        rolling=watched.rolling_days,
        season=watched.season,
        window_rows=watched.window_rows,
        opens=watched.opens,
        closes=watched.closes,
    )


def _check_weights(declared: Deployment, found: Mapping[str, Reference]) -> None:
    """Raise ConfigError when references are known and none has a column that is weighed."""
    from penstock.errors import ConfigError

    if declared.monitor and found and (problem := weights_problem(declared.monitor.weights, found.values())):
        raise ConfigError(problem)


def weights_problem(weights: Mapping[str, float], references: Iterable[Reference]) -> str:
    """Return what is wrong with the weights of columns; nothing where all are columns of a reference."""
    there = {part.name for reference in references for part in reference.slices}
    unknown = sorted(weights.keys() - there)
    if not unknown:
        return ""
    return f"monitor.weights: no reference has a column {unknown[0]}; there are {', '.join(sorted(there))}"


def _forget(wiring: Wiring, topics: Topics, sources: Sequence[Source]) -> None:
    from monitoring import snapshots

    for source in sources:
        snapshots.forget(wiring, topics.snapshots, source)
        click.echo(f"{wiring.deployment}: the snapshots of {source.role} in {wiring.snapshots} are void")


def _run(
    wiring: Wiring,
    topics: Topics,
    sources: Sequence[Source],
    watched: Watched | None,
    oracle: bool,
    host: str,
    port: int | None,
) -> None:
    """Run until told to stop. watched: under control, whose changes are followed."""
    import logging

    from prometheus_client import CollectorRegistry, start_http_server

    from monitoring.metrics import MonitorMetrics

    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry, wiring.deployment)
    if port is not None:
        server, _ = start_http_server(port, host, registry)
        logging.getLogger(__name__).info("metrics at http://%s:%d/metrics", host, server.server_port)
    if oracle:
        _run_oracle(wiring, topics, sources, watched, metrics)
        return
    from monitoring import app, exact

    _follow(wiring, topics, watched, exact.die)
    app.run(app.build(wiring, topics, sources, metrics))


def _follow(wiring: Wiring, topics: Topics, watched: Watched | None, end: End) -> None:
    """Follow, in threads, the deployment's state, for what changes how it is watched ends the process in order; and
    what its slots say.
    """
    from penstock.operating import Operating, thresholds
    from streams import control
    from streams.desired import Desired

    if watched is None:
        return

    def changed(state: State | None) -> None:
        if state is None:
            end(f"{wiring.deployment} was removed from control", 0)
        elif what := watched.differs(state):
            end(f"revision {state.revision} of {wiring.deployment} changes {what}: starting over", AGAIN)

    Desired(wiring.kafka, wiring.deployment, changed).start()
    if (limits := thresholds(watched.deployment)) is not None:
        Operating(wiring, topics, limits, control.TOPICS.status, end).start()


def _run_oracle(
    wiring: Wiring, topics: Topics, sources: Sequence[Source], watched: Watched | None, metrics: Any
) -> None:
    import logging
    import signal
    import threading

    from monitoring import runner
    from monitoring.errors import ReferenceUnavailable

    stop, status = threading.Event(), [0]

    def end(why: str, code: int) -> None:
        logging.getLogger(__name__).info("%s; exit %d", why, code)
        status[0] = code
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _follow(wiring, topics, watched, end)
    try:
        runner.run(wiring, topics, sources, metrics, stop.is_set)
    except ReferenceUnavailable as error:
        end(str(error), AGAIN)
    if status[0]:
        raise SystemExit(status[0])

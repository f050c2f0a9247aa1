"""Score a year of real flights, end to end, exactly once, on a real Kafka; then account for every event."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console

from examples.flights import account, data, report, watch
from examples.flights.labels import Labels
from examples.flights.replay import Replay
from examples.flights.screen import Screen, Status, alert_line, screen_for
from examples.flights.stage import Service, Stage, StageFailed, wait_until
from penstock.client import ClientError, Producer
from penstock.config import BOOTSTRAP, STATE_FOLDER, kafka_settings
from penstock.errors import PenstockError
from schemas.deployment import Deployment
from schemas.errors import SchemaError

FOLDER = Path(__file__).parent
PARTITIONS = 4
STUCK_SECONDS = 30.0  # without progress for so long, the demo stops waiting and says what is missing
QUIET = {"log_level": "2"}  # librdkafka's own words; what matters comes as an error
ALERT_SECONDS = 15.0  # without progress of the monitor after the last event; then no alert will come
PATIENCE_SECONDS = 120.0  # that it may be behind: words that nothing happened are progress, too


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. rate: events/s, 0 for no limit; sample: every n-th flight; corrupt: percent."""

    rate: float
    sample: int
    corrupt: float
    keep: bool
    folder: Path


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rate", default=10_000.0, show_default=True, type=click.FloatRange(0), help="Events/s; 0: no limit.")
@click.option("--sample", default=1, show_default=True, type=click.IntRange(1), help="Use every n-th flight only.")
@click.option(
    "--corrupt", default=0.0, show_default=True, type=click.FloatRange(0, 100), help="Percent of corrupt events to add."
)
@click.option("--keep", is_flag=True, help="Stay up after the account, until Ctrl-C.")
@click.option("--folder", type=click.Path(path_type=Path), help="Logs and models.  [default: .penstock/demo/TIME]")
def main(rate: float, sample: int, corrupt: float, keep: bool, folder: Path | None) -> None:
    """Replay the flights of New York in 2013 through a real Kafka, a model, its shadow and the monitor.

    Kafka is started here unless PENSTOCK_BOOTSTRAP_SERVERS names one. Exit status: 0 the account balances, 1 it does
    not, 2 something did not start or broke off, 3 the shadow's account does not balance, 4 no alert came though the
    data changed, 130 Ctrl-C.
    """
    folder = (folder or STATE_FOLDER / "demo" / f"{datetime.now():%Y%m%d-%H%M%S}").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to stop is like Ctrl-C: everything stops in order
    console = Console(highlight=False)
    code = report.NOT_STARTED
    try:
        with screen_for(console) as screen:
            code = play(Plan(rate, sample, corrupt, keep, folder), screen)
    except (StageFailed, PenstockError, ClientError, SchemaError, KafkaException, ModuleNotFoundError) as error:
        console.print(f"The demo could not go on: {error}", style="bold red", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print("Stopped.")
        code = 130 if code == report.NOT_STARTED else code
    console.print(f"Logs: {folder}", markup=False, soft_wrap=True)
    raise SystemExit(code)


def play(plan: Plan, screen: Screen) -> int:
    """Run the whole demo and return its exit code."""
    screen.say("Reading the flights and the weather of 2013 ...")
    year = data.load().every(plan.sample)
    with broker(plan, screen) as kafka:
        suffix = f"-{datetime.now():%H%M%S}-{os.getpid()}" if is_shared() else ""
        deployment = write_deployment(plan, suffix)
        with fresh_topics(kafka, deployment), Stage(plan.folder, kafka["bootstrap.servers"]) as stage:
            return Demo(plan, screen, year, kafka, deployment, stage).run()


def is_shared() -> bool:
    """Whether the environment names a Kafka, which others may use too."""
    return bool(os.environ.get(BOOTSTRAP))


@contextlib.contextmanager
def broker(plan: Plan, screen: Screen) -> Iterator[dict[str, str]]:
    """The librdkafka settings of the broker that the environment names, else of one that runs as long as we do."""
    if is_shared():
        settings = {**kafka_settings(), **QUIET}
        screen.say(f"Using the Kafka at {settings['bootstrap.servers']}")
        yield settings
        return
    from penstock.embedded import EmbeddedKafka

    screen.say("Starting Kafka (the first time it is downloaded) ...")
    embedded = EmbeddedKafka(plan.folder / "kafka")
    try:
        with embedded:
            yield {**kafka_settings(embedded.bootstrap_servers), **QUIET}
    finally:
        shutil.rmtree(embedded.data / "log", ignore_errors=True)  # the events; its log file stays


def write_deployment(plan: Plan, suffix: str) -> Path:
    """Write the deployment of this run into its folder and return its path.

    suffix: told apart from other runs on a shared Kafka, by name and topics. With corrupt events on purpose there is no
    limit on dead letters, and the monitor's window shrinks with the sample.
    """
    declared = yaml.safe_load((FOLDER / "deployment.yaml").read_text())
    declared["name"] += suffix
    for place in (declared["input"], declared["output"], declared["arms"][1], declared["labels"]):
        place["topic"] = declared["name"] + place["topic"].removeprefix("flights")
    if plan.corrupt:
        declared["limits"]["dead_letters_per_minute"] = 0
    declared["monitor"]["window_rows"] = max(100, declared["monitor"]["window_rows"] // plan.sample)
    path = plan.folder / "deployment.yaml"
    path.write_text(yaml.safe_dump(declared, sort_keys=False))
    for schema in ("event.avsc", "label.avsc"):
        shutil.copy(FOLDER / schema, plan.folder)
    return path


@contextlib.contextmanager
def fresh_topics(kafka: Mapping[str, str], path: Path) -> Iterator[None]:
    """Create the topics of events, labels and inferences; on a Kafka that is not ours delete the run's in the end."""
    declared = Deployment.model_validate(yaml.safe_load(path.read_text()))
    assert declared.labels is not None
    admin = AdminClient(dict(kafka))
    sources, config = (declared.input.topic, declared.labels.topic), {"message.timestamp.type": "LogAppendTime"}
    new = [NewTopic(topic, PARTITIONS, config=config) for topic in sources]
    new += [NewTopic(topic, PARTITIONS) for topic in (declared.output.topic, declared.output_topic("shadow"))]
    for created in admin.create_topics(new, request_timeout=10).values():
        created.result()
    try:
        yield
    finally:
        if is_shared():
            names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(f"{declared.name}.")]
            for deleted in admin.delete_topics(names).values():
                deleted.result()


class Demo:
    """One run: the services, the readers and the replay, put together."""

    def __init__(
        self, plan: Plan, screen: Screen, year: data.Year, kafka: dict[str, str], deployment: Path, stage: Stage
    ) -> None:
        self._plan, self._screen, self._year, self._kafka, self._stage = plan, screen, year, kafka, stage
        self._path = deployment
        self._declared = Deployment.model_validate(yaml.safe_load(deployment.read_text()))
        self._models = f"--repository={plan.folder / 'models'}"
        self._outcome = report.Outcome()
        self._seen: deque[tuple[float, int]] = deque(maxlen=13)  # seconds and inferences, of the last three seconds

    def run(self) -> int:
        """Score the year, account for it, and return the exit code."""
        self._add_models()
        self._start_services()
        self._start_readers()
        try:
            self._replay_year()
            self._settle()
            if not self._plan.keep:
                self._stop_services()
            self._account()
        finally:
            for reading in self._readings:
                reading.stop()
        report.show(self._screen.console, self._outcome)
        self._say_what_is_next()
        return self._outcome.code

    def _add_models(self) -> None:
        for tag in ("production", "candidate"):
            self._screen.say(f"Adding flights@{tag} to the model repository ...")
            self._stage.run("model", "add", str(FOLDER / f"{tag}.zip"), "--tag", tag, "--repository-only", self._models)
        self._stage.run("validate", str(self._path), self._models)

    def _start_services(self) -> None:
        self._screen.say("Starting the worker, the shadow's worker and the monitor ...")
        path = str(self._path)
        self._worker = self._stage.start("worker", "worker", path, "--slot", "0", self._models)
        self._shadow = self._stage.start("shadow", "worker", path, "--slot", "0", "--arm", "shadow", self._models)
        self._monitor = self._stage.start("monitor", "monitor", path, self._models)
        for service, page in ((self._worker, "ready"), (self._shadow, "ready"), (self._monitor, "metrics")):
            service.wait_until_ready(page)

    def _start_readers(self) -> None:
        kafka, declared = self._kafka, self._declared
        most = 2 * len(self._year.events)  # a corrupt copy of each, all in one partition
        self._events = watch.Events(kafka, declared.input.topic, PARTITIONS, most)
        self._scored = watch.Inferences(kafka, declared.output.topic, self._events)
        self._shadowed = watch.Counted(kafka, declared.output_topic("shadow"))
        self._letters = watch.Letters(kafka, declared.dead_letter_topic())
        self._shadow_letters = watch.Letters(kafka, declared.dead_letter_topic("shadow"))
        self._alerts = watch.Alerts(kafka, "penstock.alerts", declared.name)
        self._readings: list[watch.Reading] = [
            self._events,
            self._scored,
            self._shadowed,
            self._letters,
            self._shadow_letters,
            self._alerts,
        ]
        for reading in self._readings:
            reading.start()

    def _replay_year(self) -> None:
        speed = f"{self._plan.rate:,.0f} events/s" if self._plan.rate else "full speed"
        self._screen.say(f"Replaying {len(self._year.events):,} flights in the order of their departure at {speed} ...")
        schema, topic = self._path.with_name("event.avsc"), self._declared.input.topic
        rate, percent = self._plan.rate, self._plan.corrupt
        with self._labels_producer() as labels:
            self._replay = Replay(
                self._kafka,
                topic,
                schema,
                self._year.events,
                rate=rate,
                percent=percent,
                scored=lambda: self._results()[0],
                labels=Labels(self._year, labels.send_frame),
            )
            self._replay.start()
            try:
                while self._replay.is_alive() and not self._worker.failure:
                    self._show()
                    self._replay.join(0.25)
            finally:
                self._replay.stop()
                self._replay.join(35)
        if self._replay.failure:
            raise self._replay.failure

    def _labels_producer(self) -> Producer:
        assert self._declared.labels is not None
        others: dict[str, Any] = {name: value for name, value in self._kafka.items() if name != "bootstrap.servers"}
        topic, schema = self._declared.labels.topic, self._path.with_name("label.avsc")
        return Producer(self._kafka["bootstrap.servers"], topic, schema, key="flight_id", linger_ms=5, **others)

    def _settle(self) -> None:
        """Wait until both arms have a result for each event, for as long as they get on, and for an alert to show."""
        best, since = -1, time.monotonic()
        while time.monotonic() - since < STUCK_SECONDS:
            self._show()
            active, shadow = self._results()
            done = active >= self._replay.sent or bool(self._worker.failure)
            if done and (shadow >= self._replay.sent or self._shadow.failure):
                break
            if active + shadow > best:
                best, since = active + shadow, time.monotonic()
            time.sleep(0.1)
        self._wait_for_an_alert()
        self._show()

    def _wait_for_an_alert(self) -> None:
        """Give the monitor time while it gets on: on a busy machine it comes behind the workers."""
        began = since = time.monotonic()
        best = -1.0
        while not (self._alerts.told or self._worker.failure or self._monitor.failure):
            read, now = self._monitor.metric("penstock_monitor_position", source="profiles"), time.monotonic()
            if read > best:
                best, since = read, now
            if now - since > ALERT_SECONDS or now - began > PATIENCE_SECONDS:
                return
            time.sleep(0.2)

    def _results(self) -> tuple[int, int]:
        active = self._scored.count + self._letters.count
        return active, self._shadowed.count + self._shadow_letters.count

    def _show(self) -> None:
        for reading in self._readings:
            if reading.failure:
                raise StageFailed(f"cannot read {reading.topic}: {reading.failure}") from reading.failure
        while self._alerts.new:
            self._screen.say(alert_line(self._alerts.new.popleft()), "yellow")
        recent = self._scored.recent_latencies()
        p50, p95 = np.percentile(recent, [50, 95]) if len(recent) else (0.0, 0.0)
        self._seen.append((time.monotonic(), self._scored.count))
        (began, before), (now, count) = self._seen[0], self._seen[-1]
        status = Status(
            sent=self._replay.sent,
            total=len(self._year.events) + self._replay.corrupt,
            at=self._replay.at,
            rate=(count - before) / (now - began) if now > began else 0.0,
            inferences=self._scored.count,
            shadow=self._shadowed.count,
            letters=self._letters.count,
            alerts=len(self._alerts.opened),
            p50=float(p50),
            p95=float(p95),
        )
        self._screen.show(status, list(self._scored.latest))

    def _stop_services(self) -> None:
        """Stop in order; what does not stop as it should is a problem of its part."""
        for service, problems in self._parts:
            if service.failure:
                problems.append(service.failure)
        codes = self._stage.stop()
        for service, problems in self._parts:
            if codes[service.name] and not problems:
                problems.append(f"{service.name} stopped with code {codes[service.name]}; see {service.log}")

    @property
    def _parts(self) -> list[tuple[Service, list[str]]]:
        outcome = self._outcome
        return [
            (self._worker, outcome.active_problems),
            (self._shadow, outcome.shadow_problems),
            (self._monitor, outcome.alert_problems),
        ]

    def _account(self) -> None:
        """Read the topics again from the beginning and hold them against the events."""
        self._screen.done()
        self._screen.say("Reading everything again for the account ...")
        declared, outcome = self._declared, self._outcome
        in_topic = watch.ends(self._kafka, declared.input.topic)
        wait_until(lambda: self._events.count >= sum(in_topic.values()), STUCK_SECONDS)
        sent = account.Sent(self._replay.sent - self._replay.corrupt, self._replay.corrupt, in_topic)
        for arm, problems in (("active", outcome.active_problems), ("shadow", outcome.shadow_problems)):
            scored = watch.read_scored(self._kafka, declared.output_topic(arm))
            letters = watch.read_letters(self._kafka, declared.dead_letter_topic(arm), self._events)
            outcome.arms[arm] = account.balance(arm, sent, scored, letters)
            outcome.aucs[arm] = account.auc_after_training(scored, self._year.outcomes)
            problems.extend(outcome.arms[arm].problems)
        seconds = self._scored.seconds()
        rate = self._scored.count / seconds if seconds else 0.0
        outcome.speed = report.Speed(rate, self._scored.all_latencies(), self._replay.held)
        self._account_for_alerts()

    def _account_for_alerts(self) -> None:
        alerts, problems = self._alerts, self._outcome.alert_problems
        names = ", ".join(sorted({str(alert["name"]) for alert in alerts.opened.values()}))
        self._outcome.alerts = (
            f"{len(alerts.opened)} opened ({names}), {len(alerts.closed)} closed again, {alerts.repeats} repeated"
            if alerts.opened
            else "none"
        )
        if not alerts.told:
            problems.append(f"no alert came, though spring is not winter; see {self._monitor.log}")
        if alerts.closed.keys() - alerts.opened.keys():
            problems.append("an alert was closed that was never opened")

    def _say_what_is_next(self) -> None:
        plan, servers = self._plan, self._kafka["bootstrap.servers"]
        for line in report.next_steps(plan.folder, self._path, servers, self._worker.url("metrics") or "", plan.keep):
            self._screen.say(line)
        if not plan.keep:
            return
        with contextlib.suppress(KeyboardInterrupt):
            while not any(service.failure for service in self._stage.services):
                time.sleep(0.5)
        self._stop_services()


if __name__ == "__main__":
    main()

"""A worker process from its start to its end: what is to run, the slot, metrics, and the loop."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from schemas.deployment import Deployment, group_of
from streams import control
from streams.building import Builder, Built, Wanted
from streams.controlled import Controlled, first_of
from streams.errors import Outgrown, Refused
from streams.governor import Governor
from streams.health import HealthServer
from streams.metrics import WorkerMetrics
from streams.options import Options
from streams.orders import Caution, Order
from streams.pulse import Pulse
from streams.safeguard import Safeguard, safeguard
from streams.signals import Signals
from streams.signs import Signs
from streams.slot import SlotLock
from streams.topics import Topics
from streams.vitals import VitalsFile, vitals_path
from streams.watchdog import Watchdog
from streams.worker import Worker

log = logging.getLogger(__name__)

YOUNG = 50_000, 20, 20  # a batch in hand is no garbage: to look at its messages every 700 took 7 % of all CPU time

Orders = Callable[[Callable[[], bool], Callable[[], bool]], Order | None]


def serve(deployment: Deployment, reader: Mapping[str, Any], options: Options, orders: Orders | None = None) -> None:
    """Run one slot of one arm as a file declares it until SIGTERM or SIGINT.

    orders: asked which slot to take once all is ready that does not depend on it, with two functions: whether to stop,
    and whether what is ready is stale. None: options.slot at once.
    Raises Refused, Fenced, or an error of models or schemas.
    """
    signals = Signals()
    topics = _topics(options, signals)
    if topics is not None:
        _refuse_controlled(deployment.name, options, topics)
        builder = Builder(options.arm, options, topics, signals.stopping)

        def build() -> Built:
            return builder.build(Wanted.declared(deployment, reader))

        _serve(builder, deployment.group(options.arm), build, options, orders, signals, None)


def obey(name: str, options: Options, orders: Orders | None = None) -> bool:
    """The same, as control asks for it: every change of the deployment's state is followed while it runs.

    Returns whether it ended because control has the deployment no more.
    """
    signals = Signals()
    topics = _topics(options, signals)
    if topics is not None:
        builder = Builder(options.arm, options, topics, signals.stopping)
        controlled = Controlled(name, options, builder)
        group = group_of(name, options.arm)
        _serve(builder, group, lambda: first_of(controlled, builder), options, orders, signals, controlled)
        return controlled.removed
    return False


def _refuse_controlled(name: str, options: Options, topics: Topics) -> None:
    """Raise Refused where control has the deployment: two states in one consumer group would undo each other."""
    if topics.get(control.TOPICS.control) is None:
        return
    state = control.read(options.kafka).states.get(name)
    if state is not None:
        raise Refused(
            f"deployment {name} is under control, at revision {state.revision}: start `penstock worker {name}`, and "
            "change it with `penstock apply FILE`"
        )


def _topics(options: Options, signals: Signals) -> Topics | None:
    topics = Topics(options.kafka)
    topics.wait_for_broker(signals.stopping)
    return None if signals.stopping() else topics


def _serve(
    builder: Builder,
    group: str,
    build: Callable[[], Built],
    options: Options,
    orders: Orders | None,
    signals: Signals,
    controlled: Controlled | None,
) -> None:
    order = Order(options.slot, options.metrics_port) if orders is None else None
    folder = options.state_folder / "slots"
    lock = SlotLock(folder, f"{group}.{order.slot}") if order is not None else None
    try:
        built = build()
        _settle()
        if orders is not None:
            log.info("ready to take a slot over")
            stale = controlled.stale if controlled is not None else builder.stale
            order = orders(signals.stopping, lambda: stale(built))
        if order is not None:
            builder.slot = order.slot
            lock = lock or SlotLock(folder, f"{group}.{order.slot}")
            _run(builder, built, order, options, signals, controlled)
    finally:
        if controlled is not None:
            controlled.close()
        builder.close()
        if lock is not None:
            lock.close()


def _settle() -> None:
    gc.collect()
    gc.freeze()  # what the start made stays: a full collection of it would stop a batch for 15 ms again and again
    gc.set_threshold(*YOUNG)


def _run(
    builder: Builder, built: Built, order: Order, options: Options, signals: Signals, controlled: Controlled | None
) -> None:
    """Run the slot, with new clients where control moves it."""
    registry, watchdog = CollectorRegistry(), Watchdog()
    metrics = WorkerMetrics(registry, deployment=built.wanted.deployment.name, arm=options.arm, slot=order.slot)
    metrics.memory_restarts.inc(order.outgrown)
    pulse = Pulse(options.batch_events)
    swapping = controlled.swapping if controlled is not None else lambda: False
    signs = Signs(metrics, pulse, options.arm, lambda: built.site.source.partitions, swapping)
    metrics.load.follow(signs)
    path = vitals_path(options.state_folder / "slots", f"{built.site.group}.{order.slot}")
    vitals = VitalsFile(path, signs)
    vitals.start()
    worker, guard = _worker(built, order, options, metrics, watchdog, signals, pulse)
    health = None
    if order.metrics_port is not None:
        health = HealthServer(options.metrics_host, order.metrics_port, registry, lambda: worker.ready)
        log.info("metrics at http://%s:%d/metrics", options.metrics_host, health.port)
    try:
        while True:
            signals.tell(worker)
            if controlled is not None:
                controlled.attend(built, worker, signs)
            worker.run()
            if worker.outgrown is not None:
                raise _outgrown(worker.plan.quotas.memory or 0, worker.outgrown)
            moved = controlled.moved() if controlled is not None and not signals.stopping() else None
            if moved is None:
                break
            guard.close()
            if moved.site.source != built.site.source:
                order = replace(order, caution=Caution())  # it names offsets of the topic before
            built = moved
            worker, guard = _worker(built, order, options, metrics, watchdog, signals, pulse)
        log.info("stopped; everything scored was committed" if worker.whole else "stopped before the last commit")
    finally:
        signals.ignore()
        watchdog.close()
        vitals.close()
        if health is not None:
            health.close()


def _outgrown(quota: int, resident: int) -> Outgrown:
    return Outgrown(
        f"the slot has {resident >> 20} MiB of memory, and quotas.memory is {quota >> 20} MiB: it ended after its "
        "batch, and nothing is lost. A supervisor starts it again; if that is often, raise the quota or find the leak"
    )


def _worker(
    built: Built,
    order: Order,
    options: Options,
    metrics: WorkerMetrics,
    watchdog: Watchdog,
    signals: Signals,
    pulse: Pulse,
) -> tuple[Worker, Safeguard]:
    site, name, plan = built.site, built.wanted.deployment.name, built.plan
    metrics.changed(plan.models, plan.leaves, plan.row_seconds)
    metrics.held("paused", plan.paused)

    def alive() -> None:
        watchdog()
        pulse.turned()

    for arm, (model, version) in plan.models.items():
        log.info("scores with %s version %s%s", model, version, "" if arm == options.arm else f" ({arm})")
    slot_id, folder = f"{site.group}.{order.slot}", options.state_folder / "slots"
    guard = safeguard(options.kafka, folder, site.group, slot_id, site.source.name, order.caution, signals.stopping)
    connect = site.connector(name, order.slot, options, metrics)
    worker = Worker(
        connect,
        plan,
        metrics,
        guard=guard,
        governor=Governor(pulse),
        alive=alive,
        batch_events=options.batch_events,
    )
    return worker, guard

"""What each kind of fault does to a running stand, by name. One that lasts returns how to end it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition
from confluent_kafka.cimpl import NewPartitions

from tests.chaos.slots import Slots

if TYPE_CHECKING:
    from tests.chaos.stand import Stand
    from tests.rig import Worker

Undo = Callable[[], None]
Kind = Callable[..., Undo | None]
KINDS: dict[str, Kind] = {}
ONE_AT_A_TIME = {
    "kill_broker",
    "stop_broker",
    "pause_broker",
    "kill_all_brokers",
    "kill_leader",
    "kill_coordinator",
    "move_leaders",
    "move_coordinator",
}
INTERNAL = {"group": "__consumer_offsets", "transactions": "__transaction_state"}


def kind(function: Kind) -> Kind:
    KINDS[function.__name__] = function
    return function


# ---- slots


@kind
def kill(stand: Stand, slot: str, again: float | None = 0.0) -> None:
    """kill -9; the slot starts anew after `again` seconds, None: never."""
    stand.slots.kill(slot, again)


@kind
def abandon(stand: Stand, slot: str) -> None:
    """kill -9 at the moment when a transaction holds everything and is not committed; the slot never comes back."""

    def die(worker: Worker) -> None:
        worker.process.send_signal(signal.SIGUSR2)
        worker.process.wait(10)

    assert isinstance(stand.slots, Slots)
    stand.slots.kill(slot, None, how=die)


@kind
def term(stand: Stand, slot: str, again: float | None = 0.0) -> None:
    """SIGTERM, and start it anew."""
    stand.slots.terminate(slot, again)


@kind
def pause(stand: Stand, slot: str) -> Undo:
    """SIGSTOP until the end of the fault: longer than the session timeout makes a zombie of it."""
    stand.slots.pause(slot)
    return lambda: stand.slots.resume(slot)


@kind
def pause_open(stand: Stand, slot: str) -> Undo:
    """SIGSTOP at the moment when a transaction holds everything and is not committed, until the end of the fault."""
    assert isinstance(stand.slots, Slots)
    stand.slots.pause_open(slot)
    return lambda: stand.slots.resume(slot)


@kind
def scale(stand: Stand, to: int) -> None:
    """Run so many slots."""
    stand.slots.scale(to)


@kind
def twin(stand: Stand, slot: str) -> None:
    """Start the same slot once more, as on another machine; the first must end, fenced."""
    stand.start_twin(slot)


# ---- brokers


@kind
def kill_broker(stand: Stand, node: int) -> Undo:
    """kill -9 of a broker until the end of the fault."""
    stand.cluster.kill(node)
    return lambda: stand.cluster.start(node)


@kind
def stop_broker(stand: Stand, node: int) -> Undo:
    """A clean stop of a broker until the end of the fault."""
    stand.cluster.stop(node)
    return lambda: stand.cluster.start(node)


@kind
def pause_broker(stand: Stand, node: int) -> Undo:
    """SIGSTOP of a broker until the end of the fault: its clients hear nothing."""
    stand.cluster.pause(node)
    return lambda: stand.cluster.resume(node)


@kind
def kill_all_brokers(stand: Stand) -> Undo:
    """kill -9 of every broker until the end of the fault."""
    nodes = range(stand.cluster.size)
    for node in nodes:
        stand.cluster.kill(node)
    return lambda: stand.cluster.start(*nodes)


@kind
def kill_leader(stand: Stand) -> Undo:
    """kill -9 of the broker that leads partition 0 of the input topic."""
    return kill_broker(stand, stand.cluster.leader(stand.rig.events, 0)) or (lambda: None)


@kind
def kill_coordinator(stand: Stand, of: str = "group") -> Undo:
    """kill -9 of the broker that coordinates the group, or slot 0's transactions."""
    node, _ = stand.cluster.coordinator(stand.coordinated(of), INTERNAL[of])
    return kill_broker(stand, node) or (lambda: None)


@kind
def move_leaders(stand: Stand) -> None:
    """Another broker leads each partition of the input and output topics."""
    for topic in (stand.rig.events, stand.rig.inferences):
        stand.cluster.move_leaders(topic)


@kind
def move_coordinator(stand: Stand, of: str = "group") -> None:
    """Another broker coordinates the group, or slot 0's transactions."""
    _, partition = stand.cluster.coordinator(stand.coordinated(of), INTERNAL[of])
    stand.cluster.move_leaders(INTERNAL[of], [partition])


# ---- the network between workers and brokers


def _weather(stand: Stand, node: int | None, change: Callable[[Any], None]) -> Undo:
    hit = [proxy for i, proxy in enumerate(stand.cluster.proxies) if node in (None, i)]
    for proxy in hit:
        change(proxy)

    def clear() -> None:
        for proxy in hit:
            proxy.clear()

    return clear


@kind
def delay(stand: Stand, seconds: float, node: int | None = None) -> Undo:
    """Everything takes longer, in both directions."""
    return _weather(stand, node, lambda proxy: proxy.delay(seconds))


@kind
def throttle(stand: Stand, rate: float, node: int | None = None) -> Undo:
    """So many bytes a second go through, all connections of a proxy and a direction together."""
    return _weather(stand, node, lambda proxy: proxy.throttle(rate))


@kind
def blackhole(stand: Stand, direction: str = "both", node: int | None = None) -> Undo:
    """Connections stay open and nothing comes through: `up` to the broker, `down` from it, or both."""
    return _weather(stand, node, lambda proxy: proxy.blackhole(direction))


@kind
def cut(stand: Stand, node: int | None = None) -> Undo:
    """Connections are closed and refused."""
    return _weather(stand, node, lambda proxy: proxy.cut())


# ---- the machine


@kind
def busy(stand: Stand) -> Undo:
    """Another process keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    stand.keep(process)

    def end() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    return end


@kind
def fill_disk(stand: Stand) -> Undo:
    """The file system of the workers' state folder has no byte left."""
    stand.fill_disk()
    return stand.empty_disk


@kind
def clock(stand: Stand, step: float) -> None:
    """Python's clock in the workers jumps by so many seconds; librdkafka's stamps do not."""
    stand.step_clock(step)


# ---- topics, models, registry


@kind
def add_partitions(stand: Stand, to: int) -> None:
    """The input topic has so many partitions from now on, and events go to all of them."""
    futures = stand.cluster.admin.create_partitions([NewPartitions(stand.rig.events, to)])
    futures[stand.rig.events].result()
    stand.load.grow(to)


@kind
def retention(stand: Stand, leave: int) -> None:
    """The log of each partition begins `leave` events before its end, as after retention."""
    for partition, sequences in list(stand.load.ledger.sequences.items()):
        first = len(sequences) - leave
        if first > 0:
            wanted = TopicPartition(stand.rig.events, partition, first)
            stand.low[partition] = first
            stand.cluster.admin.delete_records([wanted])[wanted].result()


@kind
def swap_model(stand: Stand, scale: float) -> None:
    """Another version becomes the production model; it makes `scale` times the sum. Each slot is restarted in turn."""
    stand.publish_model(scale)
    _roll(stand)


def _roll(stand: Stand) -> None:
    for slot in stand.slots.names:
        stand.slots.terminate(slot)
        stand.slots.wait_ready(stand.load.partitions)


@kind
def bad_model(stand: Stand) -> Undo:
    """A version that does not fit the events becomes the production model and slot 0 is restarted: it must refuse.

    At the end of the fault the tag is moved back.
    """
    good = stand.publish_bad_model()
    stand.slots.terminate("0")
    return lambda: stand.tag(good)


@kind
def registry_down(stand: Stand) -> Undo:
    """The schema registry does not answer."""
    assert stand.registry is not None
    stand.registry.stop()
    return stand.registry.start

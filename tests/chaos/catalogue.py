"""Every scenario by name. `catalogue(seed)` gives them with the random schedules of that seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streams.membership import TRANSACTION_TIMEOUT_MS
from tests.chaos.controls import controls
from tests.chaos.events import OUTPUT_BYTES, Events
from tests.chaos.load import Step
from tests.chaos.long_runs import long_runs
from tests.chaos.monitor_run import CONTROL
from tests.chaos.scenario import Expect, Fault, Hurts, Scenario
from tests.chaos.schedule import schedule

KIP_848 = {"PENSTOCK_KAFKA_GROUP_PROTOCOL": "consumer"}
STEADY = 2_000.0  # events a second
POISONED = Events(poison=0.01)
AT_LEAST_ONCE = Expect(stuck=20.0, tolerated=("duplicated", "out_of_order"))


def catalogue(seed: int) -> list[Scenario]:
    """Return all scenarios: slots, brokers, network, surroundings, load steps, controls, and the long runs."""
    return [
        *_slots(seed),
        *_zombies(),
        *_lost_slots(),
        *_at_least_once(seed),
        *_brokers(),
        *_three_brokers(seed),
        *_network(),
        *_surroundings(),
        *_changes(),
        *_load_steps(),
        *_monitors(seed),
        *controls(),
        *long_runs(seed),
    ]


def _steady(seconds: float, rate: float = STEADY) -> tuple[Step, ...]:
    return (Step(seconds, rate),)


def _fault(at: float, kind: str, *, lasts: float = 0.0, **arguments: Any) -> Fault:
    return Fault(at, kind, arguments, lasts)


def _slots(seed: int) -> Sequence[Scenario]:
    kills = schedule(seed, 18, slots=3, kills=5, terms=1, scales=2)
    return [
        Scenario(
            "slots",
            "slots are killed, stopped and scaled at random while 1 % of the events is poison",
            _steady(20),
            kills,
            Expect(stuck=20.0),
            POISONED,
            short=True,
        ),
        Scenario(
            "supervised",
            "slots under a supervisor are killed: their partitions go on within 2 s",
            _steady(40, 1_000),
            (
                _fault(8, "kill", slot="1"),
                _fault(18, "kill", slot="0"),
                _fault(28, "kill", slot="2"),
            ),
            Expect(recovery=2.0, elsewhere=1.0),
            supervised=True,
        ),
        Scenario(
            "kip-848",
            "the same slots under the group protocol of KIP-848",
            _steady(52),
            schedule(seed + 1, 40, slots=3, kills=6, terms=2, scales=2, pauses=1),
            events=POISONED,
            settings=KIP_848,
        ),
    ]


def _zombies() -> Sequence[Scenario]:
    return [
        Scenario(
            "zombies",
            "slots are frozen for longer than their session and their transaction, then wake up; one gets a twin",
            _steady(62),
            (
                _fault(4, "pause", slot="1", lasts=9),
                _fault(20, "pause", slot="0", lasts=14),
                _fault(42, "pause", slot="2", lasts=3),
                _fault(50, "twin", slot="1"),
            ),
            events=POISONED,
        ),
        Scenario(
            "zombie",
            "a slot is frozen for longer than its session and its transaction, then wakes up",
            _steady(20),
            (_fault(3, "pause", slot="1", lasts=12),),
        ),
        Scenario(
            "zombie-open",
            "a slot is frozen within a transaction for longer than both may live, then wakes up and commits",
            _steady(24),
            (_fault(3, "pause_open", slot="1", lasts=12),),
            broken="stops_open_when_told",
        ),
    ]


def _at_least_once(seed: int) -> Sequence[Scenario]:
    return [
        Scenario(
            "slots-at-least-once",
            "the same with delivery at least once: batches that were under way come again, nothing else is wrong",
            _steady(20),
            schedule(seed, 18, slots=3, kills=5, terms=1, scales=2),
            AT_LEAST_ONCE,
            POISONED,
            declared={"delivery": "at_least_once"},
            short=True,
        ),
        Scenario(
            "broker-at-least-once",
            "the only broker is killed, with delivery at least once",
            _steady(14),
            (_fault(3, "kill_broker", node=0, lasts=1), _fault(9, "kill", slot="0")),
            AT_LEAST_ONCE,
            declared={"delivery": "at_least_once"},
        ),
    ]


def _lost_slots() -> Sequence[Scenario]:
    return [
        Scenario(
            "lost-slot",
            "a slot is killed and never comes back; the others take its partitions",
            _steady(40),
            (_fault(8, "kill", slot="2", again=None),),
            Expect(stuck=9.0, recovery=8.0, elsewhere=3.0),
        ),
        Scenario(
            "abandoned",
            "a slot dies within a transaction and never comes back: readers wait behind it no longer than it may live",
            _steady(40),
            (_fault(8, "abandon", slot="2"),),
            Expect(stuck=9.0, recovery=8.0, held=TRANSACTION_TIMEOUT_MS / 1000 + 1),
            outputs=4,
            broken="dies_open_when_told",
        ),
    ]


def _brokers() -> Sequence[Scenario]:
    return [
        Scenario(
            "broker",
            "the only broker is killed",
            _steady(10),
            (_fault(3, "kill_broker", node=0, lasts=1),),
            short=True,
        ),
        Scenario(
            "broker-again",
            "the only broker is stopped in order, and killed twice",
            _steady(70),
            (
                _fault(5, "stop_broker", node=0, lasts=2),
                _fault(25, "kill_broker", node=0, lasts=1),
                _fault(45, "kill_broker", node=0, lasts=5),
            ),
        ),
        Scenario(
            "broker-away",
            "the only broker is frozen for 12 s, then away for 30 s, while slots are killed",
            _steady(85),
            (
                _fault(5, "pause_broker", node=0, lasts=12),
                _fault(28, "kill_broker", node=0, lasts=30),
                _fault(40, "kill", slot="0"),
                _fault(45, "term", slot="1"),
            ),
        ),
    ]


def _three_brokers(seed: int) -> Sequence[Scenario]:
    moves = (
        _fault(2, "move_leaders"),
        _fault(4, "move_coordinator", of="group"),
        _fault(6, "move_coordinator", of="transactions"),
        _fault(8, "kill_leader", lasts=3),
    )
    return [
        Scenario(
            "three-brokers",
            "leaders and coordinators move and a leader dies in a cluster of three",
            _steady(16, 1_000),
            moves,
            brokers=3,
            short=True,
        ),
        Scenario(
            "three-brokers-hurt",
            "brokers of three are killed, stopped and frozen, leaders and coordinators move, slots are killed",
            _steady(145, 1_000),
            (
                *schedule(seed + 2, 110, slots=3, brokers=3, broker_faults=10, kills=6, scales=2),
                _fault(112, "pause_broker", node=1, lasts=9),
            ),
            events=POISONED,
            brokers=3,
        ),
        Scenario(
            "three-brokers-away",
            "all three brokers are away for 30 s",
            _steady(60, 1_000),
            (_fault(8, "kill_all_brokers", lasts=30),),
            brokers=3,
        ),
    ]


def _network() -> Sequence[Scenario]:
    return [
        Scenario(
            "network",
            "the network swallows answers",
            _steady(14),
            (_fault(3, "blackhole", direction="down", lasts=4),),
            proxied=True,
        ),
        Scenario(
            "network-slow",
            "the network delays by 200 ms, then lets 30 kB a second through, then is cut",
            _steady(90, 1_000),
            (
                _fault(5, "delay", seconds=0.2, lasts=15),
                _fault(32, "throttle", rate=30_000, lasts=20),
                _fault(70, "cut", lasts=5),
            ),
            Expect(stuck=45.0),
            proxied=True,
        ),
        Scenario(
            "network-long",
            "answers of the brokers are swallowed for longer than sessions and transactions live",
            _steady(110),
            (
                _fault(5, "blackhole", direction="down", lasts=20),
                _fault(45, "blackhole", direction="up", lasts=20),
                _fault(50, "kill", slot="1"),
                _fault(85, "blackhole", lasts=12),
            ),
            Expect(stuck=45.0),
            proxied=True,
        ),
        Scenario(
            "network-three-brokers",
            "one broker of three cannot be reached by the workers, then another",
            _steady(80, 1_000),
            (_fault(5, "blackhole", node=0, lasts=15), _fault(40, "blackhole", node=1, direction="down", lasts=15)),
            Expect(stuck=45.0),
            brokers=3,
            proxied=True,
        ),
    ]


def _surroundings() -> Sequence[Scenario]:
    killed = (_fault(6, "kill", slot="0"), _fault(12, "kill", slot="1"))
    return [
        Scenario(
            "oversize",
            "one event in a hundred makes an inference that its topic does not take, one is poison",
            _steady(20),
            killed,
            events=Events(poison=0.01, oversize=0.01),
            output_bytes=OUTPUT_BYTES + (16 << 10),
        ),
        Scenario(
            "registry",
            "the registry is down while slots start anew",
            _steady(34),
            (_fault(5, "registry_down", lasts=12), _fault(7, "kill", slot="0"), _fault(24, "kill", slot="1")),
            registry=True,
            events=Events(poison=0.01, schema_id=7),
        ),
        Scenario(
            "full-disk",
            "the disk of the state folder is full while slots are killed",
            _steady(34),
            (
                _fault(4, "fill_disk", lasts=20),
                _fault(8, "kill", slot="0"),
                _fault(11, "scale", to=4),
                _fault(14, "term", slot="1"),
                _fault(28, "kill", slot="2"),
            ),
            Expect(said=("what is being scored is not noted",)),
            tiny_disk=True,
        ),
        Scenario(
            "clock",
            "Python's clock in the workers jumps an hour ahead and two back",
            _steady(24),
            (
                _fault(4, "clock", step=3_600),
                _fault(9, "kill", slot="0"),
                _fault(12, "clock", step=-7_200),
                _fault(16, "kill", slot="1"),
            ),
            events=POISONED,
            stepped=True,
        ),
        Scenario(
            "busy-core",
            "another process keeps one core busy while slots are killed",
            _steady(34),
            (_fault(3, "busy", lasts=28), *killed),
        ),
    ]


def _changes() -> Sequence[Scenario]:
    """What operators do in mid-stream."""
    return [
        Scenario(
            "models",
            "a second version goes live slot by slot; one that does not fit is refused and the others go on",
            _steady(70, 1_000),
            (_fault(5, "swap_model", scale=2.0), _fault(40, "bad_model", lasts=12)),
            Expect(exits=(2,), versions=2),
        ),
        Scenario(
            "partitions",
            "the input topic gains partitions in mid-stream",
            _steady(45),
            (_fault(6, "add_partitions", to=16), _fault(25, "kill", slot="0"), _fault(32, "term", slot="1")),
            Expect(stuck=30.0),
        ),
        Scenario(
            "retention",
            "retention overtakes slots that are away: what it took is counted, nothing else is lost",
            _steady(40),
            (
                _fault(5, "scale", to=0),
                _fault(14, "retention", leave=300),
                _fault(20, "scale", to=3),
            ),
            Expect(gone=True),
        ),
    ]


def _load_steps() -> Sequence[Scenario]:
    return [
        Scenario(
            "load-10",
            "the load rises tenfold for 10 s",
            (Step(15, 500), Step(10, 5_000), Step(30, 500)),
            expect=Expect(step_p95=0.25, step_drain=20.0),
        ),
        Scenario(
            "load-1000",
            "the load rises a thousandfold for 10 s",
            (Step(15, 25), Step(10, 25_000), Step(45, 25)),
            expect=Expect(step_p95=0.25, step_drain=30.0),
        ),
    ]


def _monitors(seed: int) -> Sequence[Scenario]:
    careless = Hurts(seed=seed, kills=6, terms=0, freezes=0, brokers=0, every=5.0, flags=(CONTROL,))
    return [
        Scenario(
            "monitor",
            "monitors are killed, stopped and frozen, and their broker too: the same alerts as in every other layout",
            (),
            hurts=Hurts(seed=seed),
        ),
        Scenario(
            "control-monitor",
            "monitors that start from their group's offsets raise other alerts or count other pairs",
            (),
            expect=Expect(("different",)),
            hurts=careless,
        ),
    ]

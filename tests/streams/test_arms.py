"""Arms: who scores which row, who steps in, and what the inference says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from models.errors import LeafUnavailable, ModelFailed, ModelTimedOut, RowsFailed
from models.routing import Router
from models.runtimes.base import Prepared
from models.runtimes.constant import Constant
from schemas.heads import read_lineage, read_position
from schemas.inference import Lineage
from schemas.values import OutputField, Rejection
from streams import arms as arms_module
from streams.arms import OPEN, Arms, Contender, Outcome
from streams.batch import batch_of
from streams.breaker import LEAST, REST, Breaker
from streams.memory import MemoryKafka
from streams.quarantine import score_around
from streams.runner import Runner
from streams.scorer import Scorer
from streams.work import Composer, Route
from tests.streams.fakes import CODEC, NumberDecoder

OUTPUTS = (OutputField("double", "scalar", "double"),)


class Times:
    """Multiplies; refuses, fails on and hangs on the numbers given."""

    outputs = OUTPUTS

    def __init__(
        self, factor: float, *, refuses: Any = (), fails: Any = (), hangs: Any = (), clock: Clock | None = None
    ) -> None:
        self.name, self.version = f"times{factor:g}", f"v{factor:g}"
        self.factor, self.refuses, self.fails, self.hangs, self.clock = factor, refuses, fails, hangs, clock
        self.runs, self.seen = 0, list[float]()

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        numbers = frame["number"].to_numpy()
        self.seen += numbers.tolist()
        bad = np.isin(numbers, list(self.refuses))
        refused = [Rejection(int(row), "missing_value", "is refused") for row in np.flatnonzero(bad)]
        return Prepared({"x": numbers[~bad]}, np.flatnonzero(~bad) if refused else None, refused)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        self.runs += 1
        if np.isin(inputs["x"], list(self.hangs)).any():
            if self.clock is not None:
                self.clock.now += seconds
            raise ModelTimedOut("thinks for ever")
        if np.isin(inputs["x"], list(self.fails)).any():
            raise ModelFailed("cannot do it")
        return pl.DataFrame({"double": inputs["x"] * self.factor})

    def close(self) -> None:
        """There is nothing to close."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def contender(name: str, model: Any, clock: Clock) -> Contender:
    return Contender(name, Runner(model, 10.0, clock), Breaker(clock))


def frame(*numbers: float) -> pl.DataFrame:
    return pl.DataFrame({"number": pl.Series(numbers, dtype=pl.Float64)})


def places(count: int) -> Callable[[], Any]:
    keys = [b"key-%d" % row for row in range(count)]
    return lambda: (keys, np.zeros(count, np.int32), np.arange(count, dtype=np.int64))


def told(outcome: Outcome) -> list[tuple[float, str, str, str]]:
    """Score, arm, assigned arm and reason of fallback of each row of outputs."""
    index = np.zeros(len(outcome.outputs), int) if outcome.made_of is None else outcome.made_of
    made = [outcome.made[i] for i in index.tolist()]
    scores = outcome.outputs["double"].to_list() if len(outcome.outputs) else []
    return [(score, each.arm, each.assigned, each.fallback) for score, each in zip(scores, made, strict=True)]


def test_each_event_is_scored_by_the_arm_that_its_key_is_assigned_to(clock: Clock) -> None:
    models = {"active": Times(1), "canary": Times(2), "challenger": Times(3)}
    contenders = {name: contender(name, model, clock) for name, model in models.items()}
    router = Router({"active": 50.0, "canary": 20.0, "challenger": 30.0}, "salt")
    arms = Arms({name: [each] for name, each in contenders.items()}, router)
    outcome = arms.run(frame(*range(500)), places(500))
    due = [router.names[index] for index in router.assign(*places(500)())]
    assert outcome.rows is None
    assert told(outcome) == [(row * models[name].factor, name, name, "") for row, name in enumerate(due)]
    assert {(made.arm, made.propensity, made.model) for made in outcome.made} == {
        ("active", 0.5, "times1"),
        ("canary", 0.2, "times2"),
        ("challenger", 0.3, "times3"),
    }
    assert all(model.runs == 1 for model in models.values())  # still batched


def test_what_an_arm_cannot_score_falls_to_the_next_and_says_why(clock: Clock) -> None:
    first, second = Times(1, refuses=[2], fails=[3], hangs=[4]), Times(10, fails=[4])
    last = Constant(OUTPUTS, {"double": -1.0})
    chain = [contender(n, m, clock) for n, m in [("active", first), ("fallback", second), ("constant", last)]]
    outcome = Arms({"active": chain}).run(frame(1, 2, 3, 4, 5), places(5))
    assert told(outcome) == [
        (1.0, "active", "active", ""),
        (20.0, "fallback", "active", "missing_value"),
        (30.0, "fallback", "active", "model_failed"),
        (-1.0, "constant", "active", "model_timed_out"),
        (5.0, "active", "active", ""),
    ]
    assert outcome.refused == []
    assert outcome.rows is None


def test_what_nobody_scores_is_refused_for_the_reason_of_the_assigned_arm(clock: Clock) -> None:
    first, second = Times(1, refuses=[2, 3]), Times(10, fails=[3])
    chain = [contender("active", first, clock), contender("fallback", second, clock)]
    outcome = Arms({"active": chain}).run(frame(1, 2, 3), places(3))
    assert told(outcome) == [(1.0, "active", "active", ""), (20.0, "fallback", "active", "missing_value")]
    assert outcome.rows is not None
    assert outcome.rows.tolist() == [0, 1]
    assert [(each.row, each.reason, each.detail) for each in outcome.refused] == [(2, "missing_value", "is refused")]


def test_every_row_is_scored_once_or_refused_once_whatever_fails(clock: Clock) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 40))
        some = [set(rng.integers(0, 40, 6).tolist()) for _ in range(9)]
        models = [Times(f + 1, refuses=some[3 * f], fails=some[3 * f + 1], hangs=some[3 * f + 2]) for f in range(3)]
        a, b, c = (contender(name, model, clock) for name, model in zip("abc", models, strict=True))
        arms = Arms({"a": [a, c], "b": [b, a, c]}, Router({"a": 1.0, "b": 2.0}, str(count)))
        outcome = arms.run(frame(*range(count)), places(count))
        rows = list(range(count)) if outcome.rows is None else outcome.rows.tolist()
        assert rows == sorted(rows)
        assert sorted([*rows, *(each.row for each in outcome.refused)]) == list(range(count))
        for row, (score, arm, _, _) in zip(rows, told(outcome), strict=True):
            assert score == row * ("abc".index(arm) + 1)


def test_a_broken_model_is_left_alone_where_another_may_score(clock: Clock) -> None:
    broken, other = Times(1, fails=range(1000)), Times(10)
    first = contender("active", broken, clock)
    arms = Arms({"active": [first, contender("fallback", other, clock)]})
    arms.run(frame(*range(LEAST)), places(LEAST))
    assert arms.circuits == {"active": True}
    runs = broken.runs
    assert told(arms.run(frame(7), places(1))) == [(70.0, "fallback", "active", OPEN)]
    assert broken.runs == runs
    clock.now += REST
    broken.fails = ()
    assert told(arms.run(frame(7), places(1))) == [(7.0, "active", "active", "")]
    assert arms.circuits == {"active": False}


class Leafy(Times):
    """A hierarchy: the numbers from 10 on are of a leaf that cannot be loaded."""

    broken: type[ModelFailed] = LeafUnavailable

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        lost = np.flatnonzero(inputs["x"] >= 10)
        scored = np.flatnonzero(inputs["x"] < 10)
        if not len(lost):
            return super().run(inputs, seconds)
        if not len(scored):
            raise self.broken("leaf 10, cannot be loaded")
        outputs = super().run({"x": inputs["x"][scored]}, seconds)
        raise RowsFailed(outputs, scored, [(lost, self.broken("leaf 10, cannot be loaded"))], lost[:0])


def test_a_leaf_that_cannot_be_loaded_costs_its_own_events_only_however_many_they_are(clock: Clock) -> None:
    arms = Arms({"active": [contender("active", Leafy(1), clock), contender("fallback", Times(10), clock)]})
    for _ in range(20):
        outcome = told(arms.run(frame(*range(100)), places(100)))
    assert outcome[:10] == [(float(row), "active", "active", "") for row in range(10)]
    assert outcome[10:] == [(10.0 * row, "fallback", "active", "model_failed") for row in range(10, 100)]
    assert arms.circuits == {"active": False}


def test_a_leaf_that_fails_counts_as_its_model_does(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what could be loaded, and gives errors, costs runs."""
    monkeypatch.setattr(Leafy, "broken", ModelFailed)
    arms = Arms({"active": [contender("active", Leafy(1), clock), contender("fallback", Times(10), clock)]})
    arms.run(frame(*range(100)), places(100))
    assert arms.circuits == {"active": True}


def test_a_model_that_nobody_stands_in_for_is_tried_whatever_it_does(clock: Clock) -> None:
    broken = Times(1, fails=range(1000))
    arms = Arms({"active": [contender("active", broken, clock)]})
    for _ in range(5):
        runs = broken.runs
        assert len(arms.run(frame(*range(LEAST)), places(LEAST)).refused) == LEAST
        assert broken.runs > runs
    assert arms.circuits == {}


def test_a_model_that_hangs_is_not_searched_for_long_where_another_may_score(clock: Clock) -> None:
    hangs = Times(1, hangs=range(10_000), clock=clock)
    arms = Arms({"active": [contender("active", hangs, clock), contender("fallback", Times(10), clock)]})
    began = clock.now
    outcome = arms.run(frame(*range(1_000)), places(1_000))
    assert clock.now - began < 40
    assert {fallback for *_, fallback in told(outcome)} == {"model_timed_out"}
    alone = Arms({"active": [contender("active", hangs, clock)]})
    began = clock.now
    alone.run(frame(*range(1_000)), places(1_000))
    assert clock.now - began > 100  # the control: without another it is searched


def all_hang(clock: Clock, of_batch: Callable[[], float]) -> Arms:
    names = ["active", "canary", "blue", "green"]
    models = {name: Times(1, hangs=range(10_000), clock=clock) for name in names}
    contenders = {name: contender(name, model, clock) for name, model in models.items()}
    chains = {name: [*dict.fromkeys([contenders[name], contenders["active"]])] for name in names}
    return Arms(chains, Router(dict.fromkeys(names, 25.0), "salt"), clock=of_batch)


def test_however_many_models_hang_a_batch_ends_before_the_group_loses_patience(clock: Clock) -> None:
    began = clock.now
    outcome = all_hang(clock, clock).run(frame(*range(1_000)), places(1_000))
    assert clock.now - began < 200
    assert sorted(each.row for each in outcome.refused) == list(range(1_000))
    assert {each.reason for each in outcome.refused} == {"model_timed_out"}
    began = clock.now
    all_hang(clock, lambda: 0.0).run(frame(*range(1_000)), places(1_000))
    assert clock.now - began > 300  # the control: each model has all of the time


@pytest.mark.parametrize("whole", [True, False])
def test_models_that_have_a_minute_each_and_all_hang_end_with_their_batch(
    clock: Clock, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka takes the partitions of a worker that does not poll for 300 s."""
    if not whole:  # the control: without a bound for the batch
        monkeypatch.setattr(arms_module, "BATCH_SECONDS", 10_000.0)
    names = ["active", "canary", "blue", "green"]
    models = {name: Times(1, hangs=range(10_000), clock=clock) for name in names}
    contenders = {name: Contender(name, Runner(model, 60.0, clock), Breaker(clock)) for name, model in models.items()}
    chains = {name: [*dict.fromkeys([contenders[name], contenders["active"]])] for name in names}
    arms = Arms(chains, Router(dict.fromkeys(names, 25.0), "salt"), clock=clock)
    began = clock.now
    outcome = arms.run(frame(*range(1_000)), places(1_000))
    assert (clock.now - began < 250) is whole
    assert sorted(each.row for each in outcome.refused) == list(range(1_000))
    assert all(model.runs for model in models.values())  # each was tried


def test_a_model_that_is_only_slow_keeps_its_circuit_closed_and_its_events(clock: Clock) -> None:
    class Slow(Times):
        """6 ms a row: 12 s for 2,000."""

        def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
            took = 0.006 * len(inputs["x"])
            clock.now += min(took, seconds)
            if took > seconds:
                raise ModelTimedOut("took longer")
            return super().run(inputs, seconds)

    arms = Arms({"active": [contender("active", Slow(1), clock), contender("fallback", Times(10), clock)]})
    for _ in range(3):
        assert {fallback for *_, fallback in told(arms.run(frame(*range(2_000)), places(2_000)))} == {""}
    assert arms.circuits == {"active": False}


def test_a_model_that_did_not_hang_is_tried_though_another_took_all_of_the_time(clock: Clock) -> None:
    active = contender("active", Times(1, hangs=range(10_000), clock=clock), clock)
    canary, blue = Times(2), Times(3, fails=range(10_000))
    chains = {
        "active": [active],
        "canary": [contender("canary", canary, clock), active],
        "blue": [contender("blue", blue, clock), active],
    }
    router = Router({"active": 40.0, "canary": 30.0, "blue": 30.0}, "salt")
    outcome = Arms(chains, router, clock=clock).run(frame(*range(1_000)), places(1_000))
    due = np.array(router.names)[router.assign(*places(1_000)())]
    assert [(score, arm) for score, arm, _, _ in told(outcome)] == [
        (2.0 * row, "canary") for row in np.flatnonzero(due == "canary").tolist()
    ]
    assert (canary.runs, blue.runs) == (1, 1)  # blue is not searched: the time is over
    refused = {each.row: each for each in outcome.refused}
    assert sorted(refused) == np.flatnonzero(due != "canary").tolist()


def test_nothing_scored_is_no_outcome_that_breaks(clock: Clock) -> None:
    arms = Arms({"active": [contender("active", Times(1, refuses=[1]), clock), contender("b", Times(1), clock)]})
    assert told(arms.run(frame(), places(0))) == []


def test_the_inference_names_who_was_assigned_and_who_scored(clock: Clock) -> None:
    canary = contender("canary", Times(2, refuses=range(0, 1000, 2)), clock)
    active = contender("active", Times(1), clock)
    router = Router({"active": 50.0, "canary": 50.0}, "in")
    arms = Arms({"active": [active], "canary": [canary, active]}, router)
    scorer = Scorer(NumberDecoder(), arms, CODEC, Lineage("fake", 7, "", "", "", "", "in"))
    kafka = MemoryKafka({"in": 1})
    for number in range(200):
        kafka.append("in", b"junk" if number % 50 == 49 else b"%d" % number, b"key-%d" % number)
    batch = batch_of(kafka.read("in"))
    scored = scorer.score(batch)
    assert scored.rows is not None
    for row, value in zip(scored.rows.tolist(), scored.inferences, strict=True):
        lineage, at = read_lineage(value)
        due = router.names[int(router.assign([batch.keys[row]], batch.partitions[:1], batch.offsets[:1])[0])]
        fell = due == "canary" and row % 2 == 0
        assert read_position(value, at) == (0, row)
        assert (lineage.assigned, lineage.propensity, lineage.deployment) == (due, 0.5, "fake")
        assert lineage.arm == ("active" if fell else due)
        assert lineage.fallback == ("missing_value" if fell else "")
        assert CODEC.decode(value)["double"] == row * (2 if lineage.arm == "canary" else 1)
    assert sum(each.reason == "malformed" for each in scored.rejected) == 4


# ---- arms that score every event


def beside(clock: Clock, **models: Any) -> list[Contender]:
    return [contender(name, model, clock) for name, model in models.items()]


def test_arms_of_every_event_score_it_beside_the_assigned_one_in_the_order_of_events(clock: Clock) -> None:
    chain = [contender("active", Times(1), clock)]
    outcome = Arms({"active": chain}, None, beside(clock, trees=Times(10), net=Times(100))).run(frame(1, 2), places(2))
    assert told(outcome) == [
        (1.0, "active", "active", ""),
        (10.0, "trees", "trees", ""),
        (100.0, "net", "net", ""),
        (2.0, "active", "active", ""),
        (20.0, "trees", "trees", ""),
        (200.0, "net", "net", ""),
    ]
    assert outcome.rows is not None
    assert outcome.rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert {made.arm: made.propensity for made in outcome.made} == {"active": 1.0, "trees": 1.0, "net": 1.0}
    assert (outcome.refused, outcome.beside) == ([], {"trees": [], "net": []})


def test_what_an_arm_of_every_event_refuses_takes_nothing_from_the_others_nor_they_from_it(clock: Clock) -> None:
    chain = [contender("active", Times(1, refuses=[3]), clock), contender("fallback", Times(5, fails=[3]), clock)]
    trees = beside(clock, trees=Times(10, refuses=[1], hangs=[2], clock=clock))
    outcome = Arms({"active": chain}, None, trees).run(frame(1, 2, 3), places(3))
    assert told(outcome) == [(1.0, "active", "active", ""), (2.0, "active", "active", ""), (30.0, "trees", "trees", "")]
    assert [(each.row, each.reason) for each in outcome.refused] == [(2, "missing_value")]
    assert [(each.row, each.reason) for each in outcome.beside["trees"]] == [
        (0, "missing_value"),
        (1, "model_timed_out"),
    ]


def test_an_arm_of_every_event_that_hangs_is_given_up_soon_and_opens_no_circuit(clock: Clock) -> None:
    hangs = Times(10, hangs=range(400), clock=clock)
    arms = Arms({"active": [contender("active", Times(1), clock)]}, None, beside(clock, trees=hangs))
    began = clock.now
    outcome = arms.run(frame(*range(400)), places(400))
    assert clock.now - began < 45  # not the two minutes of a model that nobody stands beside
    assert [row[1] for row in told(outcome)] == ["active"] * 400
    assert len(outcome.beside["trees"]) == 400
    assert arms.circuits == {}


def test_a_message_has_the_inferences_of_all_and_the_dead_letters_of_each_by_itself(clock: Clock) -> None:
    chain = [contender("active", Times(1, refuses=[2]), clock)]
    arms = Arms({"active": chain}, None, beside(clock, trees=Times(10, refuses=[1])))
    scorer = Scorer(NumberDecoder(), arms, CODEC, Lineage("fake", 1, *[""] * 4, "in"))
    kafka = MemoryKafka({"in": 1})
    for value in (b"junk", b"1", b"2", b"3"):
        kafka.append("in", value, b"k", 0)
    batch = batch_of(kafka.read("in"))
    scored = scorer.score(batch)
    found = [(place(value), CODEC.decode(value)["arm"], CODEC.decode(value)["double"]) for value in scored.inferences]
    assert found == [(1, "active", 1.0), (2, "trees", 20.0), (3, "active", 3.0), (3, "trees", 30.0)]
    assert [(each.row, each.reason) for each in scored.rejected] == [(0, "malformed"), (2, "missing_value")]
    route = Route("fake", "in", 1, "out", 1, "letters", 1, beside={"trees": "letters.trees"})
    work = Composer(route).work(batch, scored)
    written = {records.topic: list(records.values) for records in work.records}
    assert written["letters"] == [b"junk", b"2"]
    assert written["letters.trees"] == [b"1"]
    assert {records.topic: records.of_an_event for records in work.records}["out"] == 2
    assert (work.reasons, work.beside) == ({"malformed": 1, "missing_value": 1}, {("trees", "missing_value"): 1})
    assert {made.arm: count for made, count in work.inferences.items()} == {"active": 2, "trees": 2}
    around = score_around(scorer, batch, np.array([False, False, True, False]))
    assert [(each.row, each.reason) for each in around.rejected] == [(2, "quarantined"), (0, "malformed")]
    assert [each.row for each in around.beside["trees"]] == [1]


def place(value: bytes) -> int:
    return read_position(value, read_lineage(value)[1])[1]


def test_an_inference_too_large_is_a_dead_letter_of_the_arm_that_made_it(clock: Clock) -> None:
    """The lineage of `trees-with-a-long-name` is longer than that of active, and so is its inference."""
    chain, name = [contender("active", Times(1), clock)], "trees-with-a-long-name"
    lineage = Lineage("fake", 1, *[""] * 4, "in")

    def scored(limit: int) -> Any:
        arms = Arms({"active": chain}, None, beside(clock, **{name: Times(10)}))
        kafka = MemoryKafka({"in": 1})
        kafka.append("in", b"1", b"k", 0)
        return Scorer(NumberDecoder(), arms, CODEC, lineage, inference_bytes=limit).score(batch_of(kafka.read("in")))

    active, trees = sorted(len(value) + len(b"k") for value in scored(10_000).inferences)
    one = scored(trees - 1)
    assert (len(one.inferences), one.rejected) == (1, [])
    assert [(each.row, each.reason) for each in one.beside[name]] == [(0, "oversize_inference")]
    none = scored(active - 1)
    assert [(each.row, each.reason) for each in none.rejected] == [(0, "oversize_inference")]
    assert [(each.row, each.reason) for each in none.beside[name]] == [(0, "oversize_inference")]

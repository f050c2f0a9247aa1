"""A hierarchy's models fit into the memory that they are given, and score the same however often they are loaded."""

from __future__ import annotations

import pytest

from models.graph import examine
from models.runtimes.base import Counts
from models.runtimes.partitioned import counts_of
from models.runtimes.sessions import SESSION_BYTES, WEIGHTS_BYTES, Sessions, estimate
from tests.models.hierarchies import KINDS, a_frame, built, linear, opened, regressor, scored, squared

ONE = SESSION_BYTES + 2 * len(regressor(0))  # memory for one session
# memory for so many models of each kind, and for half of one more
ROOM = {
    "own": lambda count: count * ONE + ONE // 2,
    "shared": lambda count: SESSION_BYTES + count * (WEIGHTS_BYTES + 12) + WEIGHTS_BYTES // 2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_do_not_fit_are_evicted_and_the_outputs_stay_equal(kind: str) -> None:
    frame = a_frame(50)
    roomy, tight = opened(built(kind)), opened(built(kind), memory=ROOM[kind](2))
    first = scored(roomy, frame)
    for _ in range(3):
        assert scored(roomy, frame).equals(first)
        assert scored(tight, frame).equals(first)
    assert roomy.sessions().made == 4
    assert roomy.sessions().evicted == 0
    counts = tight.sessions()
    assert counts.open == 2
    assert counts.made == counts.evicted + counts.open > 4
    assert counts.bytes <= ROOM[kind](2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_run_before_others_are_loaded(kind: str) -> None:
    """Else a batch that needs one leaf more than there is room for would load all of them again, each time."""
    model, frame = opened(built(kind), memory=ROOM[kind](3)), a_frame(50)
    scored(model, frame)
    before = model.sessions().made
    for _ in range(5):
        scored(model, frame)
    assert model.sessions().made == before + 5  # one a run: three of four stay


def test_a_graph_that_no_loaded_model_shares_any_more_is_let_go() -> None:
    kinds = [examine(linear(0)), examine(squared(0)), examine(linear(1))]
    sessions = Sessions(lambda number: kinds[number], SESSION_BYTES + 3 * WEIGHTS_BYTES, 1)
    first = sessions.get(0)
    assert sessions.get(2).session is first.session
    assert sessions.counts().bytes == SESSION_BYTES + 2 * (WEIGHTS_BYTES + 12)
    sessions.get(1)  # another graph: no room beside the first one
    assert [number in sessions for number in range(3)] == [False, True, False]
    assert sessions.counts().bytes == SESSION_BYTES + WEIGHTS_BYTES + 12
    assert sessions.get(0).session is not first.session


def test_one_session_is_kept_however_little_memory_there_is() -> None:
    model = opened(memory=1)
    scored(model, a_frame(10))
    assert (model.sessions().open, model.sessions().made) == (1, 4)
    model.close()
    assert model.sessions() == Counts(4, 3, 0, 0)


def test_a_model_that_two_arms_have_is_counted_once() -> None:
    one, other = opened(), opened(built("own"))
    scored(one, a_frame(10))
    assert counts_of([one, one]) == one.sessions()
    assert counts_of([one, other]).made == one.sessions().made + other.sessions().made  # the control: two that are two


def test_the_least_recently_used_session_leaves_first() -> None:
    examined = examine(regressor(0))
    sessions = Sessions(lambda number: examined, 2 * estimate(examined), 1)
    kept = sessions.get(1)
    sessions.get(2)
    assert sessions.get(1) is kept
    sessions.get(3)
    assert [number in sessions for number in (1, 2, 3)] == [True, False, True]
    assert sessions.get(1) is kept


def test_trees_are_estimated_to_take_more_of_memory_than_weights_do() -> None:
    summary = examine(linear(0)).summary
    weights = examine(linear(0))
    assert estimate(weights) == SESSION_BYTES + 2 * summary.bytes
    operators = {"TreeEnsembleRegressor": 1}
    object.__setattr__(weights, "summary", summary.model_copy(update={"operators": operators}))
    assert estimate(weights) == SESSION_BYTES + 7 * summary.bytes

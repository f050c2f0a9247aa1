"""Numbers from counts, against the same numbers from the events themselves (scikit-learn, or a plain sum)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator

import pytest
from sklearn import metrics

from monitoring import judging, scores
from monitoring.cells import Cells, Group, Tables, add, merge, pack, unpack
from monitoring.errors import PartInvalid
from monitoring.judging import Task
from monitoring.totals import Totals
from tests.monitoring import dict_judging
from tests.monitoring.dict_judging import Value

DRAW = random.Random(5)
SCORES = [DRAW.choice((0.0, 1.0, 0.5, DRAW.randrange(64) / 64, DRAW.random())) for _ in range(3000)]
TRUTHS = [DRAW.random() < score for score in SCORES]
MIDDLES = [scores._middle(dict_judging.score_bin(score)) for score in SCORES]


def counted(task: Task, pairs: Iterable[tuple[Value, Value]], sign: int = 1) -> dict[str, Cells]:
    tables: Tables = {}
    for said, truth in pairs:
        for what, name, cell, by in dict_judging.judged(task, said, truth):
            add(tables, Group("a", "m", "v", "", "", what, name), [(cell, sign * by)])
    return {group.what: cells for group, cells in tables.items()}


def binary() -> dict[str, float]:
    return scores.numbers_of("binary", counted("binary", zip(SCORES, TRUTHS, strict=True))["binary"])


def test_numbers_of_a_yes_or_no_are_those_of_the_events() -> None:
    found, said = binary(), [score >= 0.5 for score in SCORES]
    assert found["labelled"] == 3000
    assert found["accuracy"] == metrics.accuracy_score(TRUTHS, said)
    assert found["precision"] == metrics.precision_score(TRUTHS, said)
    assert found["recall"] == metrics.recall_score(TRUTHS, said)
    assert found["f1"] == pytest.approx(metrics.f1_score(TRUTHS, said))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(TRUTHS, SCORES), abs=1e-6)
    clipped = [min(max(score, judging.CLIP), 1 - judging.CLIP) for score in SCORES]
    assert found["log_loss"] == pytest.approx(metrics.log_loss(TRUTHS, clipped), abs=1e-6)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(TRUTHS, MIDDLES))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(TRUTHS, SCORES), abs=0.005)
    assert found["positives"] == sum(TRUTHS) / 3000


@pytest.mark.parametrize("threshold", [0.25, 0.75, 63 / 64])
def test_another_threshold_is_exact_where_bins_meet(threshold: float) -> None:
    cells = counted("binary", zip(SCORES, TRUTHS, strict=True))["binary"]
    found = scores.numbers_of("binary", cells, scores.threshold_of(threshold))
    assert found["accuracy"] == metrics.accuracy_score(TRUTHS, [score >= threshold for score in SCORES])


@pytest.mark.parametrize("threshold", [0.0, 1.0, 0.3, -1.0, math.nan])
def test_a_threshold_between_bins_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="1/64"):
        scores.threshold_of(threshold)


def test_scores_that_mean_what_they_say_are_calibrated_and_others_not() -> None:
    assert binary()["ece"] < 0.05
    proud = [min(1.0, score + 0.3) for score in SCORES]
    cells = counted("binary", zip(proud, TRUTHS, strict=True))["binary"]
    assert scores.numbers_of("binary", cells)["ece"] > 0.15
    table = scores.calibration(cells)
    assert sum(rows for _, _, rows in table) == 3000
    assert all(score > share - 0.1 for score, share, rows in table if rows > 50)


def test_a_correction_leaves_nothing_of_what_it_corrects() -> None:
    for task, said, truth in (
        ("binary", 0.7, True),
        ("multiclass", (0.2, 0.8), 1),
        ("multiclass", "b", "a"),
        ("regression", 1.7, -3.1),
    ):
        tables: Tables = {}
        for sign in (1, -1):
            for what, name, cell, by in dict_judging.judged(task, said, truth):  # type: ignore[arg-type]
                add(tables, Group("a", "m", "v", "", "", what, name), [(cell, sign * by)])
        assert tables == {}


def test_numbers_of_classes_are_those_of_the_events() -> None:
    draw = random.Random(1)
    truths = [draw.choice("abc") for _ in range(1000)]
    said = [truth if draw.random() < 0.7 else draw.choice("abc") for truth in truths]
    tables: Tables = {}
    for one, truth in zip(said, truths, strict=True):
        for what, name, cell, by in dict_judging.judged("multiclass", one, truth):
            add(tables, Group("a", "m", "v", "", "", what, name), [(cell, by)])
    right = {group.what: cells for group, cells in tables.items()}["multiclass"]
    assert scores.numbers_of("multiclass", right)["accuracy"] == metrics.accuracy_score(truths, said)
    found = scores.per_class({group: cells for group, cells in tables.items() if group.what == "confusion"})
    assert found["f1"] == pytest.approx(metrics.f1_score(truths, said, average="macro"))
    assert found["recall"] == pytest.approx(metrics.recall_score(truths, said, average="macro"))


def test_probabilities_of_classes_have_losses() -> None:
    said, truths = [(0.7, 0.2, 0.1), (0.1, 0.1, 0.8)], [0, 1]
    found = scores.numbers_of("multiclass", counted("multiclass", zip(said, truths, strict=True))["multiclass"])
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truths, said, labels=[0, 1, 2]), abs=1e-5)
    brier = [((0.3**2 + 0.2**2 + 0.1**2) / 2), ((0.1**2 + 0.9**2 + 0.8**2) / 2)]
    assert found["brier"] == pytest.approx(sum(brier) / 2, abs=1e-5)


def test_numbers_of_a_regression_are_those_of_the_events() -> None:
    draw = random.Random(2)
    truths = [draw.gauss(100, 20) for _ in range(500)]
    said = [truth + draw.gauss(3, 5) for truth in truths]
    found = scores.numbers_of("regression", counted("regression", zip(said, truths, strict=True))["regression"])
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truths, said), abs=1e-5)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truths, said), abs=1e-5)
    assert found["r2"] == pytest.approx(metrics.r2_score(truths, said), abs=1e-5)
    assert found["bias"] == pytest.approx(3, abs=1)


def test_business_numbers_have_their_mean_and_sum() -> None:
    cells: Cells = {}
    for number in (1.0, 2.5, 4.0):
        for _, _, cell, by in dict_judging.counted("revenue", number):
            cells[cell] = cells.get(cell, 0) + by
    assert scores.numbers_of("number", cells) == {
        "count": 3, "mean": 2.5, "sum": 7.5, "sd": pytest.approx(math.sqrt(1.5))
    }  # fmt: skip


def test_performance_is_estimated_before_labels_come_also_when_inputs_have_moved() -> None:
    draw = random.Random(3)
    labelled = counted("binary", zip(SCORES * 5, [draw.random() < score**2 for score in SCORES * 5], strict=True))
    moved = [draw.betavariate(5, 2) for _ in range(20_000)]
    scored: Cells = {}
    for score in moved:
        scored[dict_judging.score_bin(score)] = scored.get(dict_judging.score_bin(score), 0) + 1
    found = scores.estimated(scored, labelled["binary"])
    truths = [draw.random() < score**2 for score in moved]
    said = [score >= 0.5 for score in moved]
    assert found["estimated_accuracy"] == pytest.approx(metrics.accuracy_score(truths, said), abs=0.03)
    assert found["estimated_f1"] == pytest.approx(metrics.f1_score(truths, said), abs=0.03)
    blind = scores.estimated(scored, {})  # scores taken at their word are wrong here
    assert abs(blind["estimated_accuracy"] - metrics.accuracy_score(truths, said)) > 0.04


def divergence(pairs: Iterable[tuple[float, float, bool | None]]) -> Cells:
    def all_of(one: float, other: float, truth: bool | None) -> Iterator[tuple[str, str, int, int]]:
        yield from dict_judging.compared("binary", one, other, "x")
        if truth is not None:
            yield from dict_judging.won("binary", one, other, truth, "x")

    cells: Cells = {}
    for pair in pairs:
        for _, _, cell, by in all_of(*pair):
            cells[cell] = cells.get(cell, 0) + by
    return cells


def test_two_arms_are_compared_and_who_was_right_is_known_when_labels_came() -> None:
    cells = divergence([(0.9, 0.1, True), (0.9, 0.8, True), (0.2, 0.7, True), (0.1, 0.2, None)])
    found = scores.numbers_of("divergence", cells)
    assert (found["compared"], found["agreement"], found["labelled"]) == (4, 0.5, 3)
    assert (found["only_first_right"], found["only_second_right"], found["accuracy_difference"]) == (1 / 3, 1 / 3, 0)
    share = scores.shares_of("divergence", cells)["accuracy_difference"]
    values = [(0 - 1 + 1) / 2, (1 - 1 + 1) / 2, (1 - 0 + 1) / 2]
    assert share == (3, sum(values), sum(value * value for value in values))
    assert scores.unscaled("accuracy_difference", (0.25, 1.0)) == (-0.5, 1.0)


@pytest.mark.parametrize(
    ("task", "said", "truth"),
    [
        ("binary", 1.5, True),
        ("binary", None, True),
        ("binary", 0.5, 7),
        ("binary", 0.5, "yes"),
        ("regression", math.inf, 1.0),
        ("regression", 1.0, "one"),
        ("multiclass", None, "a"),
        ("multiclass", (math.nan, 0.5), 1),
    ],
)
def test_what_cannot_be_judged_is_counted_as_such(task: Task, said: Value, truth: Value) -> None:
    assert list(dict_judging.judged(task, said, truth)) == [("unusable", "", 1, 1)]


@pytest.mark.parametrize(
    ("declared", "truth", "said", "width", "task"),
    [
        ("auto", "boolean", "double", 1, "binary"),
        ("auto", "double", "double", 1, "regression"),
        ("auto", "double", "double", 3, "multiclass"),
        ("auto", "double", "long", 1, "multiclass"),
        ("auto", "text", "text", 1, "multiclass"),
        ("binary", "double", "double", 1, "binary"),
    ],
)
def test_the_task_follows_from_the_label_and_the_output(
    declared: str, truth: str, said: str, width: int, task: str
) -> None:
    assert judging.task_of(declared, truth, said, width) == task


def test_a_class_has_one_name_whatever_its_type() -> None:
    assert dict_judging._name(2.0) == dict_judging._name(2) == dict_judging._name("2") == "2"
    assert dict_judging._name(True) == "1"


@pytest.mark.parametrize("error", [0.0, 1e-5, 0.3, -0.3, 1.0, 5.5, -1e6, 1e11])
def test_errors_are_counted_by_their_size(error: float) -> None:
    size = judging.error_size(dict_judging.error_cell(error))
    assert size <= abs(error) * 1.0000001
    assert abs(error) < size * 1.5 or not error
    assert dict_judging.error_cell(error) != dict_judging.error_cell(-error) or error == 0


def test_cells_come_back_from_their_bytes_whatever_their_size() -> None:
    cells = {0: 1, 5: -1, 6: 10**30, 300: -(10**25), 301: 127, 302: -128, 10_000: 64}
    assert unpack(pack(cells)) == cells
    assert unpack(pack({})) == {}
    for data in (b"\x01", b"\x80", pack(cells)[:-1]):
        with pytest.raises(PartInvalid):
            unpack(data)


def test_merging_is_addition_in_any_order() -> None:
    group = Group("a", "m", "v", "", "", "binary")
    parts: list[Tables] = [{group: {1: 2}}, {group: {1: -2, 3: 1}}, {group: {3: -1}}]
    forward, backward = Tables(), Tables()
    for part in parts:
        merge(forward, part)
    for part in reversed(parts):
        merge(backward, part)
    assert forward == backward == {}


def test_errors_are_held_to_a_declared_range_so_that_their_mean_has_an_interval() -> None:
    tables: Tables = {}
    for error in [1.0, -3.0, 100.0, 0.0] * 250:
        for what, name, cell, by in dict_judging.judged("regression", 50.0 + error, 50.0, 10.0):
            add(tables, Group("a", "m", "v", "", "", what, name), [(cell, by)])
    totals = Totals()
    totals.add(tables)
    told = {each.metric: each for each in totals.told()}
    assert told["mae"].number == 26.0
    assert told["mae"].low is None
    assert told["held_mae"].number == pytest.approx(3.5, abs=1e-4)
    assert told["held_bias"].number == pytest.approx(2.0, abs=1e-4)
    for metric in ("held_mae", "held_bias"):
        low, high = told[metric].low, told[metric].high
        assert low is not None
        assert high is not None
        assert -10 <= low < told[metric].number < high <= 10
        assert high - low < 5


def test_another_threshold_has_no_intervals() -> None:
    totals, tables = Totals(), Tables()
    for score, truth in zip(SCORES, TRUTHS, strict=True):
        for what, name, cell, by in dict_judging.judged("binary", score, truth):
            add(tables, Group("a", "m", "v", "", "", what, name), [(cell, by)])
    totals.add(tables)
    half = {each.metric: each for each in totals.told()}
    assert half["accuracy"].low is not None
    assert half["accuracy"].low < half["accuracy"].number
    assert half["f1"].low is not None
    assert half["f1"].high is not None
    assert half["f1"].low < half["f1"].number < half["f1"].high
    assert half["auc"].low is None
    other = {each.metric: each for each in totals.told(scores.threshold_of(0.25))}
    assert other["accuracy"].number != half["accuracy"].number
    assert all(each.low is None for each in other.values())

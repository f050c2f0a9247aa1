"""What predictions add to the counts, alone, beside their labels, and beside another arm's predictions of the events.

By column: what a whole record brings is counted by array operations. Whole numbers are added up, so sums are exact in
any order and a correction takes away exactly what was added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from models.samples import ASSIGNED
from monitoring import judging
from monitoring.arrays import Array, Bools, Doubles, Longs, squares, whole
from monitoring.cells import SPLIT
from monitoring.formulas import Formula
from monitoring.judging import FIXED, Task
from monitoring.meeting import ALL, NEW, NOBODY, Entries, Meeting
from monitoring.rewards import ACCURACY, ALONE, ERROR, WHAT, Assigned
from monitoring.tally import Tally
from monitoring.values import LARGEST, NONE, NOTHING, SCALAR, Reading, Values


class Source(NamedTuple):
    """Who made predictions. role: assigned, beside or shadow. width: of a vector, else values.SCALAR.

    assigned: to which of several arms their events were, ALONE where one has them all.
    """

    arm: str
    model: str
    version: str
    role: str
    task: Task
    width: int
    assigned: Assigned = ALONE


@dataclass(frozen=True, slots=True)
class Asked:
    """What is counted of labelled events beside right and wrong. formulas: over both, see monitoring.formulas.

    numbers: of labels, the first of their extras. error_range: that errors of numbers are held to for intervals.
    """

    numbers: tuple[str, ...] = ()
    formulas: tuple[Formula, ...] = ()
    error_range: float | None = None


@dataclass(frozen=True)
class Counting:
    """Counts what a meeting changes. apart: names a value of its kind, or `other` where there are too many.

    rewards: outcomes of events that several arms share.
    """

    meeting: Meeting
    reading: Reading
    sources: Sequence[Source]
    asked: Asked
    apart: Callable[[str, str], str]
    tally: Tally = field(default_factory=Tally)
    rewards: Tally = field(default_factory=Tally)

    @cached_property
    def values(self) -> Values:
        """What predictions and labels say."""
        rows = self.meeting.rows
        widths = np.array([source.width for source in self.sources] or [SCALAR], np.int64)
        return Values(rows.kinds, rows.bits, np.where(rows.events, widths[rows.sources], SCALAR))

    @cached_property
    def assigned(self) -> Bools:
        """Say of each row whether it is the prediction of who the event is assigned to."""
        of = np.array([source.role == ASSIGNED for source in self.sources] or [False])
        found: Bools = self.meeting.rows.events & of[self.meeting.rows.sources]
        return found

    @cached_property
    def shared(self) -> Bools:
        """Say of each row whether it is a prediction for an event that several arms share."""
        of = np.array([source.assigned != ALONE for source in self.sources] or [False])
        found: Bools = self.meeting.rows.events & of[self.meeting.rows.sources]
        return found

    @cached_property
    def beside(self) -> Longs:
        """Of each other prediction the first assigned one of its event, with which it is compared."""
        meeting, found = self.meeting, np.full(len(self.assigned), NOBODY)
        assigned = np.flatnonzero(self.assigned)[::-1]
        found[meeting.firsts[assigned]] = assigned  # of several the first one is written last
        return np.where(meeting.rows.events & ~self.assigned, found[meeting.firsts], NOBODY)

    def count(self) -> Longs:
        """Count everything; return the times of what was counted."""
        meeting = self.meeting
        new = np.flatnonzero(meeting.fresh & meeting.rows.events)
        times = meeting.rows.times[new]
        if len(new):
            self._scored(new, times)
            fresh = meeting.fresh
            pairs = np.flatnonzero(self.beside != NOBODY)
            pairs = pairs[fresh[pairs] | fresh[self.beside[pairs]]]
            self._compared(self.beside[pairs], pairs, meeting.rows.times[pairs])
        if meeting.rows.events.all():
            return times
        return np.concatenate((times, self._labelled(meeting.entries(self.equal))))

    def equal(self, one: Longs, other: Longs) -> Bools:
        """Say of pairs of labels whether they say the same."""
        extras = self.meeting.rows.extras
        same = (extras[one] == extras[other]) | (np.isnan(extras[one]) & np.isnan(extras[other]))
        found: Bools = self.values.same(one, other) & same.all(axis=1)
        return found

    def _labelled(self, entries: Entries) -> Longs:
        """Count entries for the predictions they are of, and who of two was right; return the times of the first."""
        at, said = self.meeting.spread(entries)
        if not len(at):
            return np.zeros(0, np.int64)
        times, truths, signs = self.meeting.rows.times[entries.labels[at]], entries.truths[at], entries.signs[at]
        fresh, first, of = self.meeting.fresh, self.beside[said], entries.of[at]
        mine = np.flatnonzero(_is_of(of, fresh[said]))
        self._judged(said[mine], truths[mine], times[mine], signs[mine])
        pairs = np.flatnonzero((first != NOBODY) & _is_of(of, fresh[said] | fresh[first]))
        self._won(first[pairs], said[pairs], truths[pairs], times[pairs], signs[pairs])
        return times[mine]

    def _scored(self, said: Longs, times: Longs) -> None:
        count, kind, values = self.tally.count, self.tally.kind, self.values
        for task, at in self._by_task(said):
            rows, when = said[at], times[at]
            mine, ones = values.take(rows), np.ones(len(rows), np.int64)
            if task == "regression":
                usable = self._moments(kind("predicted"), rows, when, mine.doubles, ones)
                count(kind("unusable"), rows[~usable], when[~usable], 0, ones[~usable])
                continue
            tops = self._tops(task, mine)
            none = np.isnan(tops) & (mine.kinds == NONE)
            count(kind("unusable"), rows[none], when[none], 0, ones[none])
            bins = np.where(np.isnan(tops), judging.UNSCORED, judging.score_bins(np.nan_to_num(tops)))
            count(kind("scored"), rows[~none], when[~none], bins[~none], ones[~none])

    def _judged(self, said: Longs, truths: Longs, times: Longs, signs: Longs) -> None:
        judges = {"binary": self._binary, "multiclass": self._multiclass, "regression": self._regression}
        for task, at in self._by_task(said):
            rows, truth, when, by = said[at], truths[at], times[at], signs[at]
            usable = judges[task](rows, truth, when, by)
            bad = ~usable
            self.tally.count(self.tally.kind("unusable"), rows[bad], when[bad], 1, by[bad])
        self._further(said, truths, times, signs)

    def _binary(self, said: Longs, truths: Longs, times: Longs, signs: Longs) -> Bools:
        scores, real = self.reading.scores(self.values.take(said)), _yes(self.values.take(truths))
        usable: Bools = ~np.isnan(scores) & ~np.isnan(real)
        said, times, signs = said[usable], times[usable], signs[usable]
        scores, real = scores[usable], real[usable]
        kind = self.tally.kind("binary")
        self.tally.count(kind, said, times, 2 * judging.score_bins(scores) + real.astype(np.int64), signs)
        distances = scores - real
        self._losses(kind, said, times, signs, distances * distances, np.where(real == 1.0, scores, 1.0 - scores))
        self._rewarded(ACCURACY, said, times, signs, (scores >= 0.5) == (real == 1.0))
        return usable

    def _multiclass(self, said: Longs, truths: Longs, times: Longs, signs: Longs) -> Bools:
        values = self.values.take(said)
        found, real = self.reading.classes(values), self.reading.classes(self.values.take(truths))
        usable: Bools = (found != NOTHING) & (real != NOTHING)
        values = values.take(np.flatnonzero(usable))
        said, times, signs, found, real = (each[usable] for each in (said, times, signs, found, real))
        tops, kind = self.reading.tops(values), self.tally.kind("multiclass")
        bins = np.where(np.isnan(tops), judging.UNSCORED, judging.score_bins(np.nan_to_num(tops)))
        self.tally.count(kind, said, times, 2 * bins + (found == real), signs)
        self.tally.count(self._confused(real, found), said, times, 0, signs)
        self._rewarded(ACCURACY, said, times, signs, found == real)
        for width, at in self.reading.by_width(values):
            matrix, texts = self.reading.matrix(values.take(at), width), self.reading.texts
            codes, inverse = np.unique(real[at], return_inverse=True)
            places = np.array([place_of(texts[code], width) for code in codes.tolist()], np.int64)[inverse.reshape(-1)]
            true = np.where(places == NOBODY, 0.0, matrix[np.arange(len(at)), places])
            brier = (np.cumsum(matrix * matrix, axis=1)[:, -1] - 2 * true + 1) / 2  # one after the other, not in pairs
            self._losses(kind, said[at], times[at], signs[at], np.clip(brier, 0.0, 1.0), true)
        return usable

    def _confused(self, real: Longs, found: Longs) -> Longs:
        """Return the number of each pair of classes, as they are told apart."""
        pairs, inverse = np.unique(np.stack((real, found)), axis=1, return_inverse=True)
        texts = self.reading.texts
        names = [f"{texts[one]}{SPLIT}{texts[other]}" for one, other in pairs.T.tolist()]
        kinds = {name: self.tally.kind("confusion", self.apart("confusion", name)) for name in sorted(names)}
        return np.array([kinds[name] for name in names], np.int64)[inverse.reshape(-1)]

    def _losses(self, kind: int, said: Longs, times: Longs, signs: Longs, brier: Doubles, true: Doubles) -> None:
        """Count fixed-point sums of the Brier score (0 to 1) and the log loss, and of their squares."""
        held = np.clip(true, judging.CLIP, 1.0 - judging.CLIP).tolist()
        loss = -np.array([math.log(each) for each in held], np.float64)  # numpy's differs from processor to processor
        cells = (judging.BRIER, judging.BRIER_2, judging.LOSS, judging.LOSS_2)
        values = [whole(each * FIXED) * signs for each in (brier, brier * brier, loss, loss * loss)]
        self.tally.sum(kind, said, times, list(zip(cells, values, strict=True)))

    def _regression(self, said: Longs, truths: Longs, times: Longs, signs: Longs) -> Bools:
        numbers, real = self.values.take(said).doubles, self.values.take(truths).doubles
        usable: Bools = ~np.isnan(numbers) & ~np.isnan(real)
        said, times, signs = said[usable], times[usable], signs[usable]
        numbers, real = numbers[usable], real[usable]
        kind, errors, true = self.tally.kind("regression"), whole((numbers - real) * FIXED), whole(real * FIXED)
        columns = {
            judging.COUNT: signs,
            judging.SUM: errors * signs,
            judging.SUM_2: squares(errors) * signs,
            judging.ABS: np.abs(errors) * signs,
            judging.TRUE: true * signs,
            judging.TRUE_2: squares(true) * signs,
        }
        self.tally.sum(kind, said, times, list(columns.items()))
        self.tally.count(kind, said, times, judging.error_cells(numbers - real), signs)
        if (most := self.asked.error_range) is not None:
            shares = np.clip((numbers - real) / most, -1.0, 1.0)
            fixed, fixed_2 = whole(shares * FIXED), whole(shares * shares * FIXED)
            held = (signs, fixed * signs, fixed_2 * signs, np.abs(fixed) * signs)
            cells = (judging.COUNT, judging.SUM, judging.SUM_2, judging.ABS)
            self.tally.sum(self.tally.kind("held", repr(most)), said, times, list(zip(cells, held, strict=True)))
            self._rewarded(ERROR, said, times, signs, np.abs(shares))
        return usable

    def _further(self, said: Longs, truths: Longs, times: Longs, signs: Longs) -> None:
        """Count further numbers of labels, for who the event was assigned to, and formulas."""
        extras, kind = self.meeting.rows.extras, self.tally.kind
        mine = np.flatnonzero(self.assigned[said])
        for at, name in enumerate(self.asked.numbers):
            numbers = extras[truths[mine], at]
            self._moments(kind("number", name), said[mine], times[mine], usable_of(numbers), signs[mine])
        for formula in self.asked.formulas:
            chosen = mine if formula.of_labels else np.arange(len(said))
            if not len(chosen):
                continue
            true = truths[chosen]
            found = formula.values(extras[said[chosen]], extras[true], self.values.take(true).doubles)
            self._moments(kind("metric", formula.told), said[chosen], times[chosen], usable_of(found), signs[chosen])
            if formula.low is not None and formula.high is not None:
                shares = (found - formula.low) / (formula.high - formula.low)
                self._rewarded(formula.name, said[chosen], times[chosen], signs[chosen], shares)

    def _rewarded(self, metric: str, said: Longs, times: Longs, signs: Longs, shares: Array) -> None:
        """Add up outcomes (0 to 1, NaN where there is none) of events that several arms share."""
        if not self.shared.any():
            return
        chosen = self.shared[said] & ~np.isnan(shares)
        held, by = shares[chosen].astype(np.float64), signs[chosen]
        columns = [
            (judging.COUNT, by),
            (judging.SUM, whole(held * FIXED) * by),
            (judging.SUM_2, whole(held * held * FIXED) * by),
        ]
        self.rewards.sum(self.rewards.kind(WHAT, metric), said[chosen], times[chosen], columns)

    def _moments(self, kind: int, said: Longs, times: Longs, numbers: Doubles, signs: Longs) -> Bools:
        """Count number, sum and sum of squares of what is no NaN; say what that is."""
        usable = ~np.isnan(numbers)
        rows, when, by = said[usable], times[usable], signs[usable]
        fixed: Array = whole(numbers[usable] * FIXED)
        columns = [(judging.COUNT, by), (judging.SUM, fixed * by), (judging.SUM_2, squares(fixed) * by)]
        self.tally.sum(kind, rows, when, columns)
        return usable

    def _compared(self, first: Longs, second: Longs, times: Longs) -> None:
        """Count what two predictions of one event say, under the task of the first."""
        for task, kind, at in self._pairs(first, second):
            rows, when = first[at], times[at]
            one, other = self.values.take(rows), self.values.take(second[at])
            if task == "regression":
                self._apart(kind, rows, when, one.doubles, other.doubles)
                continue
            left, right = self._classes(task, one), self._classes(task, other)
            both = (left != NOTHING) & (right != NOTHING)
            rows, when, left, right = rows[both], when[both], left[both], right[both]
            ones = np.ones(len(rows), np.int64)
            self.tally.count(kind, rows, when, np.where(left == right, judging.AGREES, judging.DIFFERS), ones)
            if task == "binary":
                distances = self.reading.scores(other)[both] - self.reading.scores(one)[both]
                self.tally.count(kind, rows, when, judging.BOTH + 2 * left + right, ones)
                self.tally.count(kind, rows, when, judging.differences(distances), ones)

    def _apart(self, kind: int, rows: Longs, times: Longs, one: Doubles, other: Doubles) -> None:
        both = ~np.isnan(one) & ~np.isnan(other)
        rows, times, one, other = rows[both], times[both], one[both], other[both]
        ones, fixed = np.ones(len(rows), np.int64), whole((other - one) * FIXED)
        self.tally.count(kind, rows, times, np.where(one == other, judging.AGREES, judging.DIFFERS), ones)
        self.tally.count(kind, rows, times, judging.error_cells(other - one), ones)
        moments = ((judging.COUNT, ones), (judging.SUM, fixed), (judging.SUM_2, squares(fixed)))
        self.tally.sum(kind, rows, times, [(judging.DISTANCE + cell, by) for cell, by in moments])

    def _won(self, first: Longs, second: Longs, truths: Longs, times: Longs, signs: Longs) -> None:
        """Count who of two was right."""
        for task, kind, at in self._pairs(first, second):
            one, other, true = (self.values.take(each[at]) for each in (first, second, truths))
            if task == "regression":
                real = true.doubles
                near, far = np.abs(one.doubles - real), np.abs(other.doubles - real)
                known = ~np.isnan(near) & ~np.isnan(far)
                cells = judging.CLOSER + np.where(near == far, 2, far < near)
            else:
                left, right = self._classes(task, one), self._classes(task, other)
                real_class = _classes_of(_yes(true)) if task == "binary" else self.reading.classes(true)
                known = (left != NOTHING) & (right != NOTHING) & (real_class != NOTHING)
                cells = judging.RIGHT + 2 * (left == real_class) + (right == real_class)
            rows, when = first[at], times[at]
            self.tally.count(kind, rows[known], when[known], cells[known], signs[at][known])

    def _pairs(self, first: Longs, second: Longs) -> Iterator[tuple[Task, int, Longs]]:
        """Yield task, number of what is counted, and places, of each pair of who predicted."""
        sources = self.meeting.rows.sources
        ours, theirs = sources[first].astype(np.int64), sources[second].astype(np.int64)
        for one, other in sorted(set(zip(ours.tolist(), theirs.tolist(), strict=True))):
            name = "/".join(self.sources[other][:3])
            kind = self.tally.kind("divergence", name)
            yield self.sources[one].task, kind, np.flatnonzero((ours == one) & (theirs == other))

    def _by_task(self, said: Longs) -> Iterator[tuple[Task, Longs]]:
        sources = self.meeting.rows.sources[said]
        present = np.unique(sources).tolist()
        for task in sorted({self.sources[each].task for each in present}):
            mine = [each for each in present if self.sources[each].task == task]
            yield task, np.flatnonzero(np.isin(sources, mine)) if len(mine) < len(present) else np.arange(len(said))

    def _tops(self, task: Task, values: Values) -> Doubles:
        return self.reading.scores(values) if task == "binary" else self.reading.tops(values)

    def _classes(self, task: Task, values: Values) -> Longs:
        if task == "binary":
            scores = self.reading.scores(values)
            return np.where(np.isnan(scores), NOTHING, scores >= 0.5)
        return self.reading.classes(values)


def _is_of(of: Longs, new: Bools) -> Bools:
    """Say of each prediction whether its entry is of it."""
    return np.where(of == ALL, True, np.where(of == NEW, new, ~new))


def _yes(truths: Values) -> Doubles:
    """Return 0 or 1; NaN for what is neither."""
    found = truths.doubles
    return np.where((found == 0.0) | (found == 1.0), found, np.nan)


def _classes_of(real: Doubles) -> Longs:
    return np.where(np.isnan(real), NOTHING, np.nan_to_num(real)).astype(np.int64)


def usable_of(numbers: Doubles) -> Doubles:
    """Return numbers, NaN for those that cannot be added up."""
    return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)


def place_of(text: str, width: int) -> int:
    """Return the place in a vector that a class names, NOBODY where there is none."""
    return int(text) if text.isdecimal() and int(text) < width else NOBODY

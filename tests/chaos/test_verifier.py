"""The verifier on made-up accounts: it finds each kind of breakage, and nothing where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.chaos.events import ONE_IN, POISON, Events
from tests.chaos.load import UNKNOWN, Ledger
from tests.chaos.reader import INFERENCE, LETTER, Results, letter_digest
from tests.chaos.timing import Happened, after_steps, calm, recovery, stuck, waits
from tests.chaos.verifier import BREAKAGES, Findings, judge, same

EVENTS = Events(poison=0.05, oversize=0.05)
PARTITIONS, COUNT = 3, 200
Row = tuple[int, int]  # source partition and offset


class Account:
    """What a flawless run would show, before a test breaks it."""

    def __init__(self) -> None:
        self.acknowledged = {p: [p + PARTITIONS * offset for offset in range(COUNT)] for p in range(PARTITIONS)}
        self.rows: list[Row] = [(p, offset) for offset in range(COUNT) for p in range(PARTITIONS)]
        self.scores: dict[Row, float] = {}
        self.echoes: dict[Row, int] = {}
        self.kinds: dict[Row, int] = {}
        self.digests: dict[Row, int] = {}
        self.targets: dict[int, int] = {}
        self.versions: dict[Row, str] = {}
        self.low: dict[int, int] = {}

    def results(self) -> Results:
        results = Results()
        results.versions = ["first", "second"]
        for row in self.rows:
            self._add(results, row)
        return results

    def _add(self, results: Results, row: Row) -> None:
        partition, offset = row
        owed = self.acknowledged.get(partition, [])
        sequence = owed[offset] if offset < len(owed) else 0
        kind = self.kinds.get(row, INFERENCE if EVENTS.scored(sequence) else LETTER)
        target = self.targets.get(partition, partition)
        if kind == LETTER:
            digest = self.digests.get(row, letter_digest(EVENTS.value(sequence), EVENTS.key(sequence)))
            results.add(LETTER, target, partition, offset, digest=digest)
        else:
            score, echo = self.scores.get(row, EVENTS.score(sequence)), self.echoes.get(row, sequence)
            version = results.versions.index(self.versions.get(row, "first"))
            results.add(INFERENCE, target, partition, offset, sequence=echo, score=score, version=version)

    def judge(self, results: Results | None = None, **options: Any) -> Findings:
        scales = {"first": 1.0, "second": 2.0}
        return judge(self.acknowledged, results or self.results(), EVENTS, scales=scales, low=self.low, **options)

    def row(self, kind: str, number: int = 0) -> Row:
        """Return a row whose event is of a kind."""
        found = [row for row in self.rows if EVENTS.kind(self.acknowledged[row[0]][row[1]]) == kind]
        return found[number]


@pytest.fixture
def account() -> Account:
    return Account()


def only(**expected: int) -> dict[str, int]:
    return dict.fromkeys(BREAKAGES, 0) | expected


def test_a_flawless_account_is_clean_and_counted(account: Account) -> None:
    findings = account.judge()
    assert findings.clean
    assert findings.events == PARTITIONS * COUNT
    assert findings.inferences + findings.letters == PARTITIONS * COUNT
    assert findings.letters > 20


def test_a_missing_inference_is_lost(account: Account) -> None:
    row = account.row("good")
    account.rows.remove(row)
    findings = account.judge()
    assert findings.breakages == only(lost=1)
    assert findings.examples == [f"lost: {row[0]}@{row[1]}"]


def test_a_missing_dead_letter_is_lost(account: Account) -> None:
    account.rows.remove(account.row("junk"))
    assert account.judge().breakages == only(lost=1)


def test_a_whole_partition_without_results_is_lost(account: Account) -> None:
    account.rows = [row for row in account.rows if row[0] != 1]
    assert account.judge().breakages == only(lost=COUNT)


def test_the_last_event_is_lost_like_any_other(account: Account) -> None:
    account.rows.remove((2, COUNT - 1))
    assert account.judge().breakages == only(lost=1)


def test_an_inference_that_comes_twice_in_a_row_is_a_duplicate(account: Account) -> None:
    at = account.rows.index(account.row("good"))
    account.rows.insert(at, account.rows[at])
    assert account.judge().breakages == only(duplicated=1)


def test_a_batch_that_comes_again_later_is_duplicated_and_out_of_order(account: Account) -> None:
    again = [row for row in account.rows if row[0] == 0 and EVENTS.scored(account.acknowledged[0][row[1]])][10:20]
    account.rows += again
    assert account.judge().breakages == only(duplicated=10, out_of_order=10)


def test_an_event_with_an_inference_and_a_dead_letter_is_a_duplicate(account: Account) -> None:
    row = account.row("good")
    broken = account.results()
    sequence = account.acknowledged[row[0]][row[1]]
    digest = letter_digest(EVENTS.value(sequence), EVENTS.key(sequence))
    broken.add(LETTER, row[0], *row, digest=digest)
    findings = judge(account.acknowledged, broken, EVENTS)
    assert findings.breakages["duplicated"] == 1
    assert findings.breakages["misjudged"] == 1


def test_two_that_changed_places_are_out_of_order(account: Account) -> None:
    mine = [i for i, (p, o) in enumerate(account.rows) if p == 1 and EVENTS.scored(account.acknowledged[1][o])]
    first, second = mine[5], mine[6]
    account.rows[first], account.rows[second] = account.rows[second], account.rows[first]
    assert account.judge().breakages == only(out_of_order=1)


def test_dead_letters_have_an_order_too(account: Account) -> None:
    mine = [i for i, (p, o) in enumerate(account.rows) if p == 1 and not EVENTS.scored(account.acknowledged[1][o])]
    account.rows[mine[0]], account.rows[mine[1]] = account.rows[mine[1]], account.rows[mine[0]]
    assert account.judge().breakages == only(out_of_order=1)


def test_source_partitions_that_share_an_output_partition_have_orders_of_their_own(account: Account) -> None:
    account.targets = dict.fromkeys(range(PARTITIONS), 0)
    account.rows.sort(key=lambda row: -row[0])
    assert account.judge().clean


def test_a_result_of_an_offset_that_nobody_wrote_is_unknown(account: Account) -> None:
    account.rows += [(0, COUNT), (PARTITIONS, 0)]
    assert account.judge().breakages == only(unknown=2)


@pytest.mark.parametrize("wrong", [float("nan"), 0.0, float(np.nextafter(np.float32(123.25), np.float32(200)))])
def test_another_score_is_different(account: Account, wrong: float) -> None:
    account.scores[account.row("good", 7)] = wrong
    assert account.judge().breakages == only(different=1)


def test_a_score_that_is_off_by_one_bit_is_different(account: Account) -> None:
    row = account.row("good", 7)
    right = np.float32(EVENTS.score(account.acknowledged[row[0]][row[1]]))
    account.scores[row] = float(np.nextafter(right, np.float32(np.inf)))
    assert account.judge().breakages == only(different=1)


def test_an_inference_that_names_another_event_is_different(account: Account) -> None:
    account.echoes[account.row("good")] = 12_345
    assert account.judge().breakages == only(different=1)


def test_each_version_is_held_to_what_it_computes(account: Account) -> None:
    row = account.row("good", 9)
    account.versions[row] = "second"
    assert account.judge().breakages == only(different=1)
    account.scores[row] = 2 * EVENTS.score(account.acknowledged[row[0]][row[1]])
    assert account.judge().clean


def test_a_good_event_in_the_dead_letters_is_misjudged(account: Account) -> None:
    account.kinds[account.row("good")] = LETTER
    assert account.judge().breakages == only(misjudged=1)


@pytest.mark.parametrize("kind", [*POISON, "oversize"])
def test_a_bad_event_that_was_scored_is_misjudged(account: Account, kind: str) -> None:
    account.kinds[account.row(kind)] = INFERENCE
    assert account.judge().breakages == only(misjudged=1)


def test_a_dead_letter_with_other_bytes_is_altered(account: Account) -> None:
    row = account.row("cut")
    sequence = account.acknowledged[row[0]][row[1]]
    account.digests[row] = letter_digest((EVENTS.value(sequence) or b"")[:-1], EVENTS.key(sequence))
    assert account.judge().breakages == only(altered=1)


def test_a_dead_letter_of_a_tombstone_is_not_that_of_an_empty_event() -> None:
    assert letter_digest(None, b"k") != letter_digest(b"", b"k")
    assert letter_digest(b"", b"k") != letter_digest(b"", None) or True
    assert letter_digest(b"a", b"k") != letter_digest(b"a", b"l")


def test_what_retention_took_is_gone_and_not_lost(account: Account) -> None:
    account.rows = [row for row in account.rows if not (row[0] == 0 and 50 <= row[1] < 80)]
    account.low[0] = 80
    findings = account.judge()
    assert findings.clean
    assert findings.gone == 30
    account.low[0] = 70
    assert account.judge().breakages == only(lost=10)


def test_an_offset_that_was_not_acknowledged_is_owed_nothing_and_a_result_there_is_told(account: Account) -> None:
    row = account.row("good")
    results = account.results()
    account.acknowledged[row[0]][row[1]] = UNKNOWN
    findings = account.judge(results)
    assert (findings.clean, findings.unowned) == (True, 1)
    account.rows.remove(row)
    assert account.judge().clean


def test_what_is_not_committed_is_not_owed_yet(account: Account) -> None:
    account.rows = [row for row in account.rows if not (row[0] == 0 and row[1] >= 90)]
    assert account.judge().breakages["lost"] > 0
    everything = dict.fromkeys(range(PARTITIONS), COUNT)
    assert account.judge(past=everything | {0: 90}).clean
    assert account.judge(past=everything | {0: 91}).breakages == only(lost=1)


def test_a_result_in_another_partition_than_its_event_is_misplaced(account: Account) -> None:
    results = account.results()
    assert account.judge(results, same_partitions=True).clean
    results.target[5] += 1
    assert account.judge(results, same_partitions=True).breakages["misplaced"] == 1


def test_readers_that_saw_different_things_are_told_apart(account: Account) -> None:
    first = account.results()
    assert same(first, account.results())
    account.rows.pop()
    assert not same(first, account.results())


def test_many_events_are_judged_as_each_is() -> None:
    sequences = np.concatenate([np.arange(5_000), np.arange(ONE_IN - 50, ONE_IN + 50)])
    good, scores = EVENTS.due(sequences)
    assert good.tolist() == [EVENTS.scored(int(s)) for s in sequences]
    assert scores.tolist() == [EVENTS.score(int(s)) for s in sequences]


def made_up_waits(arrivals: dict[int, list[tuple[float, float]]]) -> tuple[Ledger, Results]:
    """arrivals: per partition (appended, arrived) of each event."""
    ledger, results = Ledger(), Results()
    for partition, times in arrivals.items():
        for offset, (appended, arrived) in enumerate(times):
            ledger.note(partition, offset, offset, appended)
            results.add(INFERENCE, 0, partition, offset, arrived=arrived)
    return ledger, results


def test_waiting_counts_from_the_end_of_the_fault_that_an_event_met() -> None:
    found = waits(*made_up_waits({0: [(100.0, 100.1), (110.0, 131.0), (140.0, 143.0)]}))
    fault = Happened(105.0, "kill_broker", "", ended=125.0)
    assert stuck(found, []) == pytest.approx(21.0)
    assert stuck(found, [fault]) == pytest.approx(6.0)
    assert calm(found, [fault]).seconds.tolist() == pytest.approx([0.1, 3.0])


def test_many_faults_do_not_excuse_what_waits_between_them() -> None:
    found = waits(*made_up_waits({0: [(100.0, 160.0)]}))
    faults = [Happened(at, "kill", "", ended=at + 1) for at in range(101, 160, 5)]
    assert stuck(found, faults) == pytest.approx(60.0 - len(faults))
    overlapping = [Happened(90.0, "stop", "", ended=130.0), Happened(120.0, "kill", "", ended=140.0)]
    assert stuck(found, overlapping) == pytest.approx(20.0)


def test_a_fault_of_a_slot_excuses_its_own_partitions_only() -> None:
    found = waits(*made_up_waits({0: [(100.0, 110.0)], 1: [(100.0, 104.0)]}))
    assert stuck(found, [Happened(99.0, "pause", "", ended=109.0, partitions=(0,))]) == pytest.approx(4.0)


def test_recovery_is_the_silence_of_the_partitions_that_were_hit() -> None:
    busy = [(t / 10, t / 10 + 0.05) for t in range(1_000, 1_200)]
    silent = [(a, b) for a, b in busy if not 104.5 < b < 107.5]
    found = waits(*made_up_waits({0: silent, 1: busy}))
    hit = Happened(104.5, "kill", "", ended=104.5, partitions=(0,))
    assert recovery(found, hit, 200.0) == pytest.approx(3.05)
    assert recovery(found, Happened(104.5, "kill", "", ended=104.5, partitions=(1,)), 200.0) < 0.2


def test_a_rise_of_the_load_is_drained_when_its_last_event_has_a_result() -> None:
    before = [(t / 10, t / 10 + 0.1) for t in range(1_000, 1_100)]
    rise = [(110 + t / 100, 110 + t / 20) for t in range(1, 1_000)]
    after = [(t / 10, max(t / 10, 160.0) + 0.2) for t in range(1_201, 2_000)]
    found = waits(*made_up_waits({0: [*before, *rise, *after]}))
    [drained] = after_steps(found, 100.0, [(10, 10), (10, 100), (80, 10)])
    assert drained.rate == 100
    assert drained.drain == pytest.approx(39.95)
    assert drained.p95 == pytest.approx(0.2)

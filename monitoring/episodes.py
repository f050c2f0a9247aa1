"""What people are told of episodes: each opened once and closed once, few updates, no flapping, one message for many.

Of one lineage. Detectors hand in findings; the book says which records follow. It is moved by record time alone, so the
same findings give the same records, and it is written down whole between two ticks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from monitoring import alerts
from monitoring.alerts import SEVERITIES, Episode, Explanation, Finding, Subject, Told
from monitoring.groups import Group, columns_of, opened_group, together

GROWTH = 1.5  # times the effect told last: from then on it is told again
LONGEST = 5  # doublings of the calm that an episode needs which came back again and again
NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Manners:
    """When people hear of what. a_while_ms: between two updates of an alert, and until one that comes back is new.

    remind_ms: what goes on is told again, so that its last record is not older than the topic keeps.
    gather_ms: openings are held back for so long, to be told together. many: columns from which they are a group.
    """

    a_while_ms: int = 300_000
    remind_ms: int = 86_400_000
    gather_ms: int = 5_000
    many: int = 3


ALONE = Manners(gather_ms=0, many=1 << 30)  # told at once and by themselves: no two have one cause


@dataclass(slots=True)
class Case:
    """What was told of an episode. Times in ms of record time."""

    record: Told  # the one that opened or updated it last
    number: int = 0  # of the next record
    group: str = ""
    closed: int = 0  # 0 while it is open
    returned: int = 0  # how often it came back after it had closed
    due: int = 0  # when it closes unless it deviates before; 0: it is not calm
    calm: Told = field(default_factory=dict)  # what closes it then


class Book:
    """The cases of one lineage.

    columns: how many it has by kind, for the words of a group. tick_ms: everything is due at the end of a tick.
    """

    def __init__(self, columns: Mapping[str, int], tick_ms: int, manners: Manners | None = None) -> None:
        self._columns, self._tick_ms, self._manners = columns, tick_ms, manners or Manners()
        self.episodes: dict[str, Episode] = {}
        self._cases: dict[str, Case] = {}
        self._groups: list[Group] = []
        self._held: list[Told] = []
        self._release = NEVER  # when what is held is told

    @property
    def open(self) -> int:
        """Number of episodes that are open."""
        return sum(not case.closed for case in self._cases.values())

    def told_open(self) -> list[Told]:
        """Return what was told last of each episode that is open, in the order of their keys."""
        return [case.record for _, case in sorted(self._cases.items()) if not case.closed]

    @property
    def known(self) -> set[str]:
        """The ids of all episodes that may come back, and of those that are open."""
        return {case.record["id"] for case in self._cases.values()}

    def take(self, subject: Subject, finding: Finding, patience: int, rest: int) -> Iterator[Told]:
        """Take what a detector says; yield what follows at once. `settle` up to the finding's tick comes before."""
        episode = self.episodes.setdefault(subject.key, Episode())
        change, case = episode.step(finding, patience, rest), self._cases.get(subject.key)
        if change == "opened":
            if case is None or (case.closed and finding.end - case.closed > self._manners.a_while_ms):
                yield from self._begin(subject, finding, max(episode.onset, 0 if case is None else case.closed))
            elif case.closed:
                yield from self._again(case, subject, finding)
            else:
                case.due = 0  # it was calm, but had not closed yet
        elif change == "closed" and case is not None:
            yield from self._rest(case, subject, finding)
        elif episode.open and finding.deviates and case is not None:
            yield from self._worse(case, subject, finding)

    def settle(self, now: int) -> Iterator[Told]:
        """Yield what is due at or before a moment of record time, in order."""
        while (due := self._next()) <= now:
            for _, case in sorted(self._cases.items()):
                if case.due == due:
                    case.due = 0
                    yield from self._close(case, {**case.calm, "at": due})
            if self._release == due:
                yield from self._tell_held(due)
            for group in self._groups:
                if self._due(group) == due:
                    yield group.tell(self._columns, due)

    def end(self, why: str, at: int) -> Iterator[Told]:
        """Close everything that is open: the version scores no more."""
        if self._held:
            yield from self._tell_held(self._release)
        for _, case in sorted(self._cases.items()):
            if not case.closed:
                subject = _subject_of(case.record)
                finding = Finding(
                    False, True, 0.0, case.record["threshold"], 0, at, at, lambda: Explanation(why), False
                )
                yield from self._close(case, alerts.told(subject, "closed", case.record["onset"], finding))
        self.episodes.clear()

    def _next(self) -> int:
        """When something is due next."""
        closings = (case.due for case in self._cases.values() if case.due)
        return min(self._release, *closings, *map(self._due, self._groups), NEVER)

    def _due(self, group: Group) -> int:
        due = group.due(self._manners.a_while_ms)
        return NEVER if due is None else self._rounded(due)

    def _rounded(self, ms: int) -> int:
        """The end of the tick that a moment is in."""
        return -(-ms // self._tick_ms) * self._tick_ms

    def _begin(self, subject: Subject, finding: Finding, onset: int) -> Iterator[Told]:
        record = alerts.told(subject, "opened", onset, finding)
        self._cases[subject.key] = case = Case(record)
        return self._emit(case, record)

    def _again(self, case: Case, subject: Subject, finding: Finding) -> Iterator[Told]:
        """It came back within a while: the episode goes on, and needs the longer to close the oftener it does."""
        known = case.record
        case.closed, case.returned = 0, case.returned + 1
        if case.group not in [group.record["id"] for group in self._groups]:
            case.group = ""  # that one is over
        case.record = _grown(known, alerts.told(subject, "opened", known["onset"], finding))
        return self._emit(case, case.record)

    def _worse(self, case: Case, subject: Subject, finding: Finding) -> Iterator[Told]:
        """Tell that it is worse than was told, once in a while at most."""
        known = case.record
        case.due = 0
        rises = SEVERITIES.index(finding.severity) > SEVERITIES.index(known["severity"])
        grows = finding.effect >= GROWTH * known["size"] > 0
        since = finding.end - known["at"]
        if since >= self._manners.remind_ms or (since >= self._manners.a_while_ms and (rises or grows)):
            case.record = _grown(known, alerts.told(subject, "updated", known["onset"], finding))
            yield from self._emit(case, case.record)

    def _rest(self, case: Case, subject: Subject, finding: Finding) -> Iterator[Told]:
        case.calm = alerts.told(subject, "closed", case.record["onset"], finding)
        if not case.returned:
            yield from self._close(case, case.calm)
            return
        calm_ms = self._manners.a_while_ms << min(case.returned - 1, LONGEST)
        case.due = self._rounded(finding.end + calm_ms)

    def _close(self, case: Case, record: Told) -> Iterator[Told]:
        case.closed, case.due, case.calm = record["at"], 0, {}
        known = case.record
        return self._emit(case, {**record, **{name: known[name] for name in ("opened", "worst", "peak")}})

    def _emit(self, case: Case, record: Told) -> Iterator[Told]:
        """Tell a record now, or hold it: openings for a moment, and what comes meanwhile behind them."""
        record["number"], case.number = case.number, case.number + 1
        if record["state"] != "opened" and not self._held:
            yield from self._pass(record)
            return
        if not self._held:
            self._release = self._rounded(record["at"] + self._manners.gather_ms)
        self._held.append(record)

    def _tell_held(self, now: int) -> Iterator[Told]:
        held, self._held, self._release = self._held, [], NEVER
        openings = [record for record in held if record["state"] == "opened"]
        if (group := self._joined(openings, now)) is not None:
            if not group.number:
                yield group.tell(self._columns, group.record["at"])
            for record in columns_of(openings):
                self._cases[_subject_of(record).key].group = group.record["id"]
        for record in held:
            yield from self._pass(record)

    def _joined(self, openings: list[Told], now: int) -> Group | None:
        """The group that these belong to: one that opened within a while, or a new one where they are many."""
        columns = together(openings)
        recent = [group for group in self._groups if now - group.record["opened"] <= self._manners.a_while_ms]
        if not columns or (not recent and columns < self._manners.many):
            return None
        if not recent:
            recent = [opened_group(openings, self._manners.many)]
            self._groups.append(recent[0])
        recent[-1].join(openings)
        return recent[-1]

    def _pass(self, record: Told) -> Iterator[Told]:
        """Tell a record with the group that it is in, and the group's end behind that of its last member."""
        key = _subject_of(record).key
        case = self._cases[key]
        group = next((each for each in self._groups if each.record["id"] == case.group), None)
        yield {**record, "group": case.group}
        if group is None:
            return
        group.note(key, record)
        if not group.open and record["state"] == "closed":
            self._groups.remove(group)
            yield group.tell(self._columns, record["at"])

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "episodes": {key: [each.onset, each.streak, each.open] for key, each in self.episodes.items()},
            "cases": {key: asdict(case) for key, case in self._cases.items()},
            "groups": [asdict(group) for group in self._groups],
            "held": self._held,
            "release": self._release,
        }

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises KeyError, TypeError, ValueError for what is none."""
        self.episodes = {key: Episode(*values) for key, values in document["episodes"].items()}
        self._cases = {key: Case(**values) for key, values in document["cases"].items()}
        self._groups = [Group(**values) for values in document["groups"]]
        self._held, self._release = list(document["held"]), int(document["release"])


def _grown(known: Told, new: Told) -> Told:
    """Return what is told of an episode that was told before."""
    worst = max(known["worst"], new["worst"], key=SEVERITIES.index)
    higher = SEVERITIES.index(new["severity"]) - SEVERITIES.index(known["severity"])
    peaks = higher > 0 or (not higher and new["size"] >= known["size"])
    return {**new, "opened": known["opened"], "worst": worst, "peak": (new if peaks else known)["peak"]}


def _subject_of(record: Told) -> Subject:
    return Subject(**{name: record[name] for name in Subject.__slots__})

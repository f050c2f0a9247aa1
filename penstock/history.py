"""What the audit tells of a version: where it is and was deployed, by whom and why, its notes and its tags; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.audit import state
from schemas.control import Entry

REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Act:
    """One change: the entry's number, when (ms since 1970), by whom, what and why; revision: the deployment's after."""

    sequence: int
    at_ms: int
    who: str
    action: str
    why: str
    revision: int | None = None

    @classmethod
    def of(cls, entry: Entry) -> Act:
        return cls(entry.sequence, entry.at_ms, entry.who, entry.action, entry.why, entry.revision_after)


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version's time in one arm of a deployment. since None: from before the audit begins; until None: now."""

    deployment: str
    arm: str
    role: str
    ref: str
    model: str
    version: str
    weight: float | None = None
    paused: bool = False
    since: Act | None = None
    until: Act | None = None


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag's time on one version. until None: it is there now."""

    model: str
    version: str
    tag: str
    since: Act | None = None
    until: Act | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody wrote about a model; version None: about all of them."""

    model: str
    version: str | None
    text: str
    act: Act


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that was not taken; deployment: by which one's workers, empty where it was no deployment."""

    deployment: str
    model: str
    version: str
    act: Act


@dataclass(frozen=True, slots=True)
class History:
    """Everything that the audit tells, of all versions or of one; each part in the order in which it began.

    unread: the sequence numbers of entries that are not understood and therefore count for nothing.
    """

    deployed: tuple[Deployed, ...] = ()
    refused: tuple[Refusal, ...] = ()
    tags: tuple[Tagged, ...] = ()
    notes: tuple[Note, ...] = ()
    registered: tuple[tuple[str, str, Act], ...] = ()  # model, version, by whom and when
    unread: tuple[int, ...] = ()

    def of(self, model: str, version: str) -> History:
        """Return what it tells of one version."""

        def mine(each: Any) -> bool:
            return bool(each.model == model and each.version == version)

        return History(
            tuple(filter(mine, self.deployed)),
            tuple(filter(mine, self.refused)),
            tuple(filter(mine, self.tags)),
            tuple(note for note in self.notes if note.model == model and note.version in (None, version)),
            tuple(each for each in self.registered if each[:2] == (model, version)),
            self.unread,
        )


def history_of(entries: Iterable[Entry]) -> History:
    """Return what entries, in the order of their sequence, tell of every version."""
    fold = _Fold()
    for entry in entries:
        try:
            fold.take(entry, state(entry.before), state(entry.after))
        except (ValueError, TypeError, KeyError):
            fold.unread.append(entry.sequence)
    return fold.history()


Arms = dict[str, Deployed]  # by the arm's name


class _Fold:
    def __init__(self) -> None:
        self.unread: list[int] = []
        self._arms: dict[str, Arms] = {}  # by deployment; absent where nothing is known yet
        self._tags: dict[tuple[str, str], Tagged] = {}  # by model and tag
        self._were_deployed: list[Deployed] = []
        self._were_tagged: list[Tagged] = []
        self._refused: list[Refusal] = []
        self._notes: list[Note] = []
        self._registered: list[tuple[str, str, Act]] = []

    def take(self, entry: Entry, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        """Count one entry; one that makes no sense raises ValueError, TypeError or KeyError and changes nothing."""
        act = Act.of(entry)
        if entry.action == REFUSED:
            self._refuse(entry.subject_kind, entry.subject, after or {}, act)
        elif entry.subject_kind == "deployment":
            self._deploy(entry.subject, before, after, act)
        elif entry.subject_kind == "model":
            self._model(entry.subject.partition("@")[0], before or {}, after or {}, act)

    def history(self) -> History:
        """Return what was counted up to now."""
        arms = [arm for arms in self._arms.values() for arm in arms.values()]
        return History(
            tuple(sorted([*self._were_deployed, *arms], key=_began)),
            tuple(self._refused),
            tuple(sorted([*self._were_tagged, *self._tags.values()], key=_began)),
            tuple(self._notes),
            tuple(self._registered),
            tuple(self.unread),
        )

    def _refuse(self, kind: str, subject: str, after: Mapping[str, Any], act: Act) -> None:
        """Count the versions that an entry names: of a deployment the arms that its workers do not score with."""
        if kind == "model" and after.get("version"):
            self._refused.append(Refusal("", subject.partition("@")[0], str(after["version"]), act))
        elif kind == "deployment" and "arms" in after:
            wanted = _arms_of(subject, after, None).values()
            refused = {(arm.model, arm.version): None for arm in wanted}
            self._refused += [Refusal(subject, model, version, act) for model, version in refused]

    def _deploy(
        self, deployment: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, act: Act
    ) -> None:
        known = self._arms.get(deployment)
        if known is None:  # the audit may begin later than the deployment
            known = _arms_of(deployment, before, None) if before and "arms" in before else {}
        if after is None:
            wanted: Arms = {}
        elif "arms" in after:
            wanted = _arms_of(deployment, after, act)
        else:
            wanted = {name: replace(arm, paused=bool(after.get("paused"))) for name, arm in known.items()}
        self._arms[deployment] = {name: _going_on(known.get(name), arm, act) for name, arm in wanted.items()}
        ended = [arm for name, arm in known.items() if not _same(arm, wanted.get(name))]
        self._were_deployed += [replace(arm, until=act) for arm in ended]

    def _model(self, model: str, before: Mapping[str, Any], after: Mapping[str, Any], act: Act) -> None:
        if "note" in after:
            self._notes.append(Note(model, _text(after.get("version")), str(after["note"]), act))
        elif act.action == "register":
            self._registered.append((model, str(after["version"]), act))
        elif "tag" in before or "tag" in after:
            tag = str(after.get("tag") or before["tag"])
            self._tag(model, tag, _text(after.get("version")), _text(before.get("version")), act)

    def _tag(self, model: str, tag: str, version: str | None, left: str | None, act: Act) -> None:
        """Move a tag to a version, or to none; left: the version that had it, where the entry says so."""
        known = self._tags.pop((model, tag), None)
        if known is None and left and left != version:
            known = Tagged(model, left, tag)
        if known is not None and known.version == version:
            self._tags[model, tag] = known
            return
        if known is not None:
            self._were_tagged.append(replace(known, until=act))
        if version:
            self._tags[model, tag] = Tagged(model, version, tag, since=act)
            self._follow(model, tag, version, act)

    def _follow(self, model: str, tag: str, version: str, act: Act) -> None:
        """Move the arms that follow a tag. An entry of the deployment that says the same changes nothing more."""
        for arms in self._arms.values():
            for name, arm in arms.items():
                if arm.ref == f"{model}@{tag}" and arm.version != version:
                    self._were_deployed.append(replace(arm, until=act))
                    arms[name] = replace(arm, version=version, since=act)


def _arms_of(deployment: str, stated: Mapping[str, Any], act: Act | None) -> Arms:
    """Return the arms of a deployment's state by name; raises KeyError or TypeError where it is none."""
    paused = bool(stated.get("paused"))
    return {
        str(arm["name"]): Deployed(
            deployment,
            str(arm["name"]),
            str(arm["role"]),
            str(arm.get("ref") or ""),
            str(arm["model"]),
            str(arm["version"]),
            None if arm.get("weight") is None else float(arm["weight"]),
            paused,
            act,
        )
        for arm in stated["arms"]
    }


def _text(value: object) -> str | None:
    return str(value) if value else None


def _same(one: Deployed, other: Deployed | None) -> bool:
    return other is not None and (one.model, one.version) == (other.model, other.version)


def _going_on(known: Deployed | None, wanted: Deployed, act: Act) -> Deployed:
    """Return the arm as it is wanted: since when it had its version before, if it had, else since now."""
    if known is None or not _same(known, wanted):
        return wanted
    since = known.since
    if since is not None and since.revision is None:  # moved by a tag, whose entry names no revision
        since = replace(since, revision=act.revision)
    return replace(wanted, since=since)


def _began(each: Deployed | Tagged) -> int:
    return each.since.sequence if each.since else -1

"""What changes of control do, decided purely: from what both topics hold to the states and entries to be written.

Each function returns None when there is nothing to change, and raises ChangeRefused when it cannot be done. A writer
may ask again with a newer world, so nothing here remembers or does anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from schemas.control import NO_HEAD, ArmState, Entry, Head, State, Version, canonical
from schemas.errors import RecordInvalid
from streams.errors import ChangeRefused, RevisionMoved

if TYPE_CHECKING:
    from schemas.deployment import Deployment

TAGGED = ("tag", "untag")
STAYING = ("active", "fallback")  # roles that are not promoted
SHARING = ("canary", "challenger")  # roles that have a share of the events


@dataclass(frozen=True, slots=True)
class World:
    """What was read. states: by deployment. entries: of the audit, oldest first; its end, or all where asked for."""

    states: Mapping[str, State] = field(default_factory=dict)
    head: Head = NO_HEAD
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the audit to be, and the state that is written with it.

    before, after: as in `schemas.control.Entry`. why: stands in where nobody gave a reason.
    """

    action: str
    subject_kind: str
    subject: str
    before: str | None
    after: str | None
    old: State | None = None
    new: State | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction writes, in its order."""

    steps: tuple[Step, ...]

    @property
    def states(self) -> list[State]:
        return [step.new for step in self.steps if step.new is not None]

    @property
    def removed(self) -> list[str]:
        """The deployments that have no state any more."""
        return [step.old.deployment for step in self.steps if step.old is not None and step.new is None]


def applied(
    world: World,
    deployment: Deployment,
    reader: Mapping[str, Any],
    arms: Sequence[ArmState],
    expect_revision: int | None = None,
) -> Change | None:
    """Make a declaration the desired state; `arms` are its own, resolved. One that is paused stays so.

    One that was removed goes on counting: `world.entries` is the whole audit. expect_revision: the one that must be
    there, 0 for none. Raises RevisionMoved when it is another, ChangeRefused where another deployment has the same
    consumer group.
    """
    old = world.states.get(deployment.name)
    revision = old.revision if old else 0
    last = revision or _last_revision(world.entries, deployment.name)
    if expect_revision is not None and revision != expect_revision:
        found = f"at revision {revision}" if old else "not there"
        expected = f"revision {expect_revision}" if expect_revision else "none"
        raise RevisionMoved(
            f"{deployment.name}: {expected} was expected, but it is {found}; look at what changed with "
            f"`penstock history {deployment.name}`, then apply again"
        )
    _keep_apart(world, deployment)
    new = State.of(deployment, last + 1, reader, arms, paused=old.paused if old else False)
    return _change("apply", old, new)


def _last_revision(entries: Sequence[Entry], name: str) -> int:
    changes = (entry for entry in entries if entry.changes_state and entry.subject == name)
    return max((entry.revision_after or entry.revision_before or 0 for entry in changes), default=0)


def removed(world: World, name: str) -> Change:
    """Take a deployment out of control: its workers end. Its past stays in the audit."""
    old = _state(world, name)
    return Change((Step("remove", "deployment", name, old.told(), None, old),))


def _keep_apart(world: World, deployment: Deployment) -> None:
    """Raise ChangeRefused where workers of another deployment would be members of one of this one's groups."""
    for name, state in world.states.items():
        if name == deployment.name:
            continue
        try:
            other = state.content()[0]
        except RecordInvalid:  # of a newer release
            continue
        for arm, group in deployment.groups.items():
            if group in other.groups.values():
                raise ChangeRefused(
                    f"the workers of {deployment.name} ({arm}) and those of {name} would be one consumer group, "
                    f"{group}, and take partitions from each other: give the shadow arm or the deployment another name"
                )


def tagged(
    world: World, model: str, tag: str, version: Version | None, *, action: str = "tag", before: str | None = None
) -> Change | None:
    """Follow a tag that moved: every arm that is declared as MODEL@TAG means `version` from now on.

    version: where the tag points now; None when no version has it any more, and then arms keep what they have.
    before: the uuid where it pointed in the repository. Where it pointed to `version` there already, the audit tells:
    an earlier try may have changed the repository only. So `world.entries` is the whole audit.
    """
    now = version.version if version else None
    last = before if before != now else next(_tags(world.entries, model, tag), None)
    moved = [*_followers(world, f"{model}@{tag}", version)] if version else []
    if not moved and last == now:
        return None
    was, points = (canonical({"model": model, "tag": tag, "version": each}) for each in (last, now))
    first = Step(action, "model", model, was, points)
    steps = [Step(action, "deployment", old.deployment, old.told(), new.told(), old, new) for old, new in moved]
    return Change((first, *(replace(step, why=f"follows {model}@{tag}") for step in steps)))


def _tags(entries: Sequence[Entry], model: str, tag: str) -> Iterator[str | None]:
    """Where the tag pointed, the newest first, as the audit tells."""
    for entry in reversed(entries):
        if entry.subject_kind == "model" and entry.subject == model and entry.action in TAGGED and entry.after:
            try:
                told = json.loads(entry.after)
                if told["tag"] == tag:
                    yield told["version"]
            except (ValueError, KeyError, TypeError):  # nothing that a writer of ours tells
                continue


def _followers(world: World, ref: str, version: Version) -> Iterator[tuple[State, State]]:
    for old in world.states.values():
        arms = tuple(
            replace(arm, version=version.version, digest=version.digest) if arm.ref == ref else arm for arm in old.arms
        )
        if arms != old.arms:
            yield old, replace(old, revision=old.revision + 1, arms=arms)


def noted(model: str, version: str, text: str) -> Change:
    """Write a remark about a version of a model into the audit."""
    return Change((Step("note", "model", model, None, canonical({"note": text, "version": version})),))


def promoted(world: World, name: str, arm: str = "canary", *, keep: bool = False) -> Change | None:
    """Make the version of an arm that of the active one, pinned by its uuid; the arm goes, unless `keep`."""
    old = _state(world, name)
    chosen = old.arm(arm)
    if chosen is None or chosen.role in STAYING:
        others = ", ".join(each.name for each in old.arms if each.role not in STAYING) or "none beside the active one"
        raise ChangeRefused(f"{name} has no arm {arm!r} that could be promoted; it has {others}")
    declared, place = json.loads(old.declaration), old.arms.index(chosen)
    active = next(each for each in old.arms if each.role == "active")
    declared["arms"][old.arms.index(active)]["model"] = chosen.pinned
    now = replace(active, ref=chosen.pinned, model=chosen.model, version=chosen.version, digest=chosen.digest)
    arms = [now if each is active else each for each in old.arms]
    if not keep:
        _leave(declared, arms, place)
    return _change("promote", old, _declared(old, declared, arms), f"{arm} {chosen.pinned}")


def withdrawn(world: World, name: str, arm: str, roles: Sequence[str] = SHARING) -> Change | None:
    """Take an arm of these roles away; the events that it had go to the others. Raises ChangeRefused."""
    old = _state(world, name)
    chosen = _sharing(old, arm, roles)
    declared, arms = json.loads(old.declaration), list(old.arms)
    _leave(declared, arms, old.arms.index(chosen))
    return _change("withdraw", old, _declared(old, declared, arms))


def reweighted(world: World, name: str, shares: Mapping[str, float]) -> Change | None:
    """Give arms other shares of the events, in percent by their names; the active arm has what all others leave.

    Raises ChangeRefused where there is no such arm, or nothing would be left.
    """
    old = _state(world, name)
    chosen = {_sharing(old, arm): percent for arm, percent in shares.items()}
    declared, arms = json.loads(old.declaration), list(old.arms)
    for arm, percent in chosen.items():
        place = old.arms.index(arm)
        declared["arms"][place]["percent"], arms[place] = percent, replace(arm, weight=percent)
    return _change("step", old, _declared(old, declared, arms))


def joined(
    world: World, name: str, declared_arm: Mapping[str, Any], version: Version, *, instead_of: str | None = None
) -> Change | None:
    """Add an arm with a version. declared_arm: as in the YAML file. instead_of: an arm that goes.

    Raises ChangeRefused.
    """
    old = _state(world, name)
    declared, arms = json.loads(old.declaration), list(old.arms)
    if instead_of is not None:
        leaving = old.arm(instead_of)
        if leaving is None or leaving.role in STAYING:
            raise ChangeRefused(f"{name} has no arm {instead_of!r} that could make room for another one")
        _leave(declared, arms, old.arms.index(leaving))
    percent, at = declared_arm.get("percent"), len(declared["arms"])
    new = ArmState(
        str(declared_arm.get("name") or declared_arm["role"]),
        *(str(declared_arm["role"]), str(declared_arm["model"])),
        *(version.model, version.version, version.digest),
        weight=percent,
    )
    declared["arms"].append(dict(declared_arm))
    arms.insert(at, new)
    return _change("join", old, _declared(old, declared, arms))


def _sharing(state: State, arm: str, roles: Sequence[str] = SHARING) -> ArmState:
    """Return an arm of these roles. Raises ChangeRefused."""
    chosen = state.arm(arm)
    if chosen is None or chosen.role not in roles:
        others = ", ".join(each.name for each in state.arms if each.role in roles) or "none"
        raise ChangeRefused(f"{state.deployment} has no arm {arm!r} that is {' or '.join(roles)}; it has {others}")
    return chosen


def _leave(declared: dict[str, Any], arms: list[ArmState], place: int) -> None:
    """Take an arm out of a declaration and its state; the others keep their names, and so their keys."""
    del declared["arms"][place], arms[place]
    for each, stays in zip(arms, declared["arms"], strict=False):
        if each.name != stays["role"]:
            stays["name"] = each.name


def _declared(old: State, declared: Mapping[str, Any], arms: Sequence[ArmState]) -> State:
    """Return the next state, with this declaration. Raises ChangeRefused where it is none."""
    deployment = deployment_of(old.deployment, declared)
    return State.of(deployment, old.revision + 1, json.loads(old.event_schema), arms, paused=old.paused)


def rolled_back(world: World, name: str, to: int | None = None, *, force: bool = False) -> Change | None:
    """Make an earlier state the desired one again, as a new revision; `world.entries` is the whole audit.

    to: its revision; None: the last state whose active arm had another version. One that is paused stays so.
    Raises ChangeRefused also for an entry on the way back that tells no state which this release can read; `force`
    passes over those.
    """
    old = _state(world, name)
    earlier = _earlier(world, name)
    if to == old.revision:
        return None
    if to is not None and to not in earlier:
        there = ", ".join(map(str, sorted(earlier)[-10:])) or "none"
        raise ChangeRefused(f"{name} has no revision {to} to go back to; the audit has {there}")
    back = _read(earlier[to]) if to is not None else _last_other(old, earlier, force=force)
    if back is None:
        raise ChangeRefused(
            f"{name} cannot be rolled back: no earlier revision had another active version; name one with --to"
        )
    new = replace(back, revision=old.revision + 1, paused=old.paused)
    return _change("rollback", old, new, f"back to revision {back.revision}")


def _earlier(world: World, name: str) -> dict[int, Entry]:
    """Return the entries of the states before the present one, by their revisions."""
    current = world.states[name].revision
    told = (entry for entry in world.entries if entry.changes_state and entry.subject == name and entry.after)
    return {entry.revision_after: entry for entry in told if entry.revision_after and entry.revision_after < current}


def _read(entry: Entry) -> State:
    """Return the state that an entry tells. Raises ChangeRefused."""
    try:
        return replace(State.of_told(entry.after or ""), revision=entry.revision_after or 0)
    except RecordInvalid as error:
        raise ChangeRefused(
            f"entry {entry.sequence} of the audit, revision {entry.revision_after} of {entry.subject}, cannot be read: "
            f"{error}; name another revision with --to, or pass over it with --force"
        ) from error


def _last_other(old: State, earlier: Mapping[int, Entry], *, force: bool) -> State | None:
    """Return the last state with another active version; `force`: those that cannot be read are passed over."""
    for revision in sorted(earlier, reverse=True):
        try:
            state = _read(earlier[revision])
        except ChangeRefused:
            if force:
                continue
            raise
        if _active(state) != _active(old):
            return state
    return None


def ways_back(newest: State, before: Sequence[State], most: int) -> list[State]:
    """Return at most so many states that a start may take where `newest` cannot run, the nearest first.

    before: states of the same deployment, in any order. The way back passes over what was rolled back from, or applied
    away: behind a state that asks for the same as an earlier one stands what was before that one. It ends where earlier
    states are not known. States that ask for the same as one on the way are left out, too: they can run no better.
    """
    found: list[State] = []
    asked, here = {_content(newest)}, newest
    while len(found) < most and (earlier := [each for each in before if each.revision < here.revision]):
        same = [each for each in earlier if _content(each) == _content(here)]
        if not same and len({each.revision for each in earlier}) < here.revision - 1:
            break  # what is not known may be what `here` went back to
        here = max(same or earlier, key=lambda each: each.revision)
        if _content(here) not in asked:
            asked.add(_content(here))
            found.append(here)
    return found


def _content(state: State) -> tuple[object, ...]:
    return state.declaration, state.event_schema, state.arms


def _active(state: State) -> tuple[str, str] | None:
    return next(((arm.model, arm.version) for arm in state.arms if arm.role == "active"), None)


def paused(world: World, name: str) -> Change | None:
    """Ask the workers of a deployment to stop scoring, and to keep their places."""
    old = _state(world, name)
    return _change("pause", old, replace(old, revision=old.revision + 1, paused=True))


def resumed(world: World, name: str) -> Change | None:
    """Let the workers of a deployment go on."""
    old = _state(world, name)
    return _change("resume", old, replace(old, revision=old.revision + 1, paused=False))


def _state(world: World, name: str) -> State:
    if name not in world.states:
        known = ", ".join(sorted(world.states)) or "none yet"
        raise ChangeRefused(f"no deployment {name!r} was applied; there is {known}: see `penstock apply`")
    return world.states[name]


def _change(action: str, old: State | None, new: State, why: str = "") -> Change | None:
    if old is not None and new.same_as(old):
        return None
    step = Step(action, "deployment", new.deployment, old.told() if old else None, new.told(), old, new, why)
    return Change((step,))


def deployment_of(name: str, declared: Mapping[str, Any]) -> Deployment:
    """Return the declaration of a state. Raises ChangeRefused where it is none."""
    from pydantic import ValidationError

    from schemas.deployment import Deployment  # here: a way back is made of states that were there, and needs none
    from schemas.problems import problems_of

    try:
        return Deployment.model_validate(declared)
    except ValidationError as error:
        problems = "; ".join(problems_of(error, Deployment))
        raise ChangeRefused(
            f"{name} would be no valid deployment then: {problems}; change its YAML file and apply it"
        ) from error

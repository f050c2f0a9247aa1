"""The records of control: what each deployment is to be, every change of it, and what workers say of themselves.

The desired state of a deployment is one record of a compacted topic; each change of it is an entry of the audit, which
`schemas.chain` ties together. Versions stand there resolved, by uuid and digest: a tag that moves changes nothing by
itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from schemas import records
from schemas.errors import RecordInvalid
from schemas.vitals import Vitals

if TYPE_CHECKING:
    from schemas.deployment import Deployment

HEAD_KEY = b""  # beside the names of deployments, none of which is empty
FACTS = ("deployment", "revision", "declaration", "event_schema", "arms", "paused")  # of a state, as the audit tells it


def canonical(value: Any) -> str:
    """Return JSON in one form: sorted keys, no spaces. Of strings, integers and nulls that is RFC 8785."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ArmState:
    """One arm with the version that its reference meant. weight: percent of the events, where one is declared."""

    name: str
    role: str
    ref: str
    model: str
    version: str
    digest: str
    weight: float | None = None

    @property
    def pinned(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True)
class State:
    """The desired state of one deployment.

    revision: counts from 1. declaration, event_schema: JSON as `canonical` writes it. changed_ms: ms since 1970.
    audit_sequence, audit_hash: of the audit's entry about this state.
    """

    deployment: str
    revision: int
    declaration: str
    event_schema: str
    arms: tuple[ArmState, ...]
    paused: bool = False
    changed_ms: int = 0
    audit_sequence: int = 0
    audit_hash: str = ""
    signature: bytes | None = None
    signer: str | None = None

    @classmethod
    def of(
        cls,
        deployment: Deployment,
        revision: int,
        reader: Mapping[str, Any],
        arms: Sequence[ArmState],
        *,
        paused: bool = False,
    ) -> Self:
        """Return the state of a declaration; `reader` is its event schema, `arms` what `arms_of` resolved."""
        return cls(
            deployment.name, revision, canonical(deployment.to_dict()), canonical(reader), tuple(arms), paused=paused
        )

    def told(self) -> str:
        """Return what the audit tells of it: JSON of FACTS."""
        facts = {name: getattr(self, name) for name in FACTS}
        facts["declaration"], facts["event_schema"] = json.loads(self.declaration), json.loads(self.event_schema)
        facts["arms"] = [asdict(arm) for arm in self.arms]
        return canonical(facts)

    @classmethod
    def of_told(cls, text: str) -> Self:
        """Return the state that `told` told. Raises RecordInvalid."""
        try:
            facts = json.loads(text)
            return cls(
                deployment=str(facts["deployment"]),
                revision=int(facts["revision"]),
                declaration=canonical(facts["declaration"]),
                event_schema=canonical(facts["event_schema"]),
                arms=tuple(ArmState(**arm) for arm in facts["arms"]),
                paused=bool(facts["paused"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RecordInvalid(f"the audit tells no state of a deployment: {text!r:.200}: {error}") from error

    def content(self) -> tuple[Deployment, dict[str, Any]]:
        """Return declaration and event schema. Raises RecordInvalid for what this release cannot read."""
        from schemas.deployment import Deployment  # here: a change that only moves states needs no such checks

        try:
            return Deployment.model_validate_json(self.declaration), json.loads(self.event_schema)
        except ValueError as error:
            raise RecordInvalid(
                f"revision {self.revision} of {self.deployment} cannot be read here: {error}"
            ) from error

    def arm(self, name: str) -> ArmState | None:
        return next((arm for arm in self.arms if arm.name == name), None)

    def same_as(self, other: State) -> bool:
        """Say whether both ask for the same; revisions and the audit do not count."""
        return replace(other, revision=self.revision).told() == self.told()

    def encode(self) -> bytes:
        return records.encode("control", asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises RecordInvalid."""
        found = records.decode("control", data)
        return cls(**{**found, "arms": tuple(ArmState(**arm) for arm in found["arms"])})


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of the audit; NO_HEAD where there is none yet."""

    sequence: int = 0
    hash: str = ""

    def encode(self) -> bytes:
        return records.encode("head", asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises RecordInvalid."""
        return cls(**records.decode("head", data))


NO_HEAD = Head()


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of control: who, when, where and why; what was before and what is since.

    at_ms: ms since 1970. before, after: JSON of a deployment's state (`State.told`), of a tag
    (`{"model", "tag", "version"}`) or of a note (`{"note", "version"}`).
    """

    id: str
    sequence: int
    previous: str
    at_ms: int
    who: str
    host: str
    action: str
    why: str
    subject_kind: str
    subject: str
    revision_before: int | None = None
    revision_after: int | None = None
    before: str | None = None
    after: str | None = None
    hash: str = ""
    signature: bytes | None = None
    signer: str | None = None

    @property
    def changes_state(self) -> bool:
        """Whether a deployment has another state since, or none any more."""
        return self.subject_kind == "deployment" and (self.revision_before, self.revision_after) != (None, None)

    def encode(self) -> bytes:
        return records.encode("audit", asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises RecordInvalid."""
        return cls(**records.decode("audit", data))


@dataclass(frozen=True, slots=True)
class First:
    """The first offset of a partition of the input topic that a version scored."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Swap:
    """A slot scored with another version from here on. at_ms: ms since 1970."""

    deployment: str
    revision: int
    arm: str
    model: str
    version: str
    digest: str
    slot: str
    firsts: tuple[First, ...]
    at_ms: int

    @property
    def key(self) -> bytes:
        return f"{self.deployment}/{self.arm}".encode()

    def encode(self) -> bytes:
        return records.encode("swap", asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises RecordInvalid."""
        found = records.decode("swap", data)
        return cls(**{**found, "firsts": tuple(First(**first) for first in found["firsts"])})


@dataclass(frozen=True, slots=True)
class Running:
    """An arm as a slot runs it. created_ms: when the version was made; trained_ms: up to when its training data reach.

    Both in ms since 1970, None where that is not known.
    """

    name: str
    model: str
    version: str
    digest: str
    created_ms: int | None = None
    trained_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What one slot runs. at_ms: ms since 1970. revision: what it runs; wanted: what it is to run; refused: what not.

    state: starting, running, refused, paused or stopped; readers accept others.
    """

    deployment: str
    slot: str
    group: str
    host: str
    pid: int
    at_ms: int
    revision: int | None
    wanted: int | None
    arms: tuple[Running, ...]
    state: str
    detail: str = ""
    refused: int | None = None
    vitals: Vitals | None = None

    @property
    def key(self) -> bytes:
        return f"{self.deployment}/{self.group}/{self.slot}".encode()

    def encode(self) -> bytes:
        return records.encode("status", asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises RecordInvalid."""
        found = records.decode("status", data)
        vitals = found["vitals"] and Vitals.of(found["vitals"])
        return cls(**{**found, "arms": tuple(Running(**arm) for arm in found["arms"]), "vitals": vitals})


@dataclass(frozen=True, slots=True)
class Version:
    """What a reference to a model means: an immutable uuid, and the sha256 of its bundle."""

    model: str
    version: str
    digest: str


def arms_of(deployment: Deployment, versions: Mapping[str, Version]) -> list[ArmState]:
    """Return a declaration's arms and behind them its fallback chain, resolved.

    versions: what each reference means.
    """
    from schemas.deployment import FALLBACK

    declared = [(name, arm.role, arm.model, arm.percent) for name, arm in deployment.named.items()]
    chain = [(name, FALLBACK, model, None) for name, model in deployment.steps.items()]
    return [
        ArmState(name, role, model, *_told(versions[model]), weight=percent)
        for name, role, model, percent in [*declared, *chain]
    ]


def _told(version: Version) -> tuple[str, str, str]:
    return version.model, version.version, version.digest

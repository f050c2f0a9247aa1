"""What made an inference, made again: the scorer of the revision and model version that the inference names."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.errors import ModelError, RepositoryUnavailable
from models.repository import Repository
from schemas.deployment import ACTIVE, CONSTANT
from schemas.errors import InferenceRefused, SchemaError, SourceUnavailable
from schemas.inference import InferenceCodec
from schemas.sources import Writers
from streams.arms import Made
from streams.assembly import Assembly, assemble
from streams.crew import Maker
from streams.declarations import Declaration
from streams.pool import Pool
from streams.scorer import Scorer
from streams.topics import Topic

__all__ = ["Declaration", "Unknown", "Version", "Versions", "differences"]
log = logging.getLogger(__name__)

KEPT = 8  # models that stay loaded
Key = tuple[int, str, str, str]  # revision, arm, model and version


@dataclass(frozen=True, slots=True)
class Version:
    """A loaded model version under one revision. tolerance: what its proof allows, 0 for bit for bit.

    leaves: it is a hierarchy, some of whose models may not have been loadable at the time.
    """

    scorer: Scorer
    codec: InferenceCodec
    outputs: frozenset[str]
    tolerance: float
    proof: Mapping[str, Any]
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why an inference cannot be made again. what: the count that it goes to."""

    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model of one revision, loaded. made: the version of each maker that scores with it."""

    assembly: Assembly
    proof: Mapping[str, Any]
    pool: Pool
    made: dict[Maker, Version] = field(default_factory=dict)


class Versions:
    """Versions by what made an inference; models are loaded on first use, and the last few kept.

    One model makes inferences of several makers: for its own events, and for those of others, for several reasons.
    """

    def __init__(
        self, declarations: Sequence[Declaration], repository: Repository, writers: Writers, output: Topic
    ) -> None:
        self.declared = {each.revision: each for each in reversed(declarations)}
        self._newest, self._repository, self._writers, self._output = declarations[0], repository, writers, output
        self._held: OrderedDict[Key, _Loaded] = OrderedDict()
        self._unknown: dict[Maker, Unknown] = {}

    def get(self, maker: Maker) -> Version | Unknown:
        """Return the version. Raises RepositoryUnavailable when nobody can tell whether there is one."""
        if maker in self._unknown:
            return self._unknown[maker]
        key = maker.revision, maker.made.arm, maker.made.model, maker.made.version
        if key not in self._held:
            found = self._load(maker)
            if isinstance(found, Unknown):
                self._unknown[maker] = found
                return found
            self._held[key] = found
            if len(self._held) > KEPT:
                _, least = self._held.popitem(last=False)
                least.pool.close()
        self._held.move_to_end(key)
        loaded = self._held[key]
        if maker not in loaded.made:
            loaded.made[maker] = self._version(loaded, maker.made)
        return loaded.made[maker]

    def newest(self, name: str) -> Maker | None:
        """Return what the newest declaration's arm would score with now; None where its model is not there."""
        deployment = self._newest.deployment
        if name not in deployment.named:
            return None
        try:
            manifest = self._repository.resolve(deployment.named[name].model).manifest
        except ModelError:
            return None
        share = deployment.shares().get(name, 100.0) / 100
        made = Made(name, name, share, "", manifest.name, manifest.version)
        return Maker(deployment.name, self._newest.revision, deployment.input.topic, made)

    def close(self) -> None:
        """Let go of the models."""
        for loaded in self._held.values():
            loaded.pool.close()
        self._held.clear()

    def _load(self, maker: Maker) -> _Loaded | Unknown:
        declared = self.declared.get(maker.revision)
        if declared is None:
            return Unknown(
                "unknown_revision",
                f"revision {maker.revision} is that of no declaration given: give the YAML file of that state with "
                "another --deployment",
            )
        try:
            return self._made(declared, maker)
        except (RepositoryUnavailable, SourceUnavailable):
            raise
        except (ModelError, SchemaError) as error:
            return Unknown("unknown_version", f"{maker.made.model}@{maker.made.version}: {error}")

    def _made(self, declared: Declaration, maker: Maker) -> _Loaded:
        made, deployment = maker.made, declared.deployment
        if made.arm == CONSTANT and deployment.constant is not None:  # of the outputs that the active model has
            ref, loaded = deployment.named[ACTIVE].model, ACTIVE
        else:
            ref, loaded = f"{made.model}@{made.version}", made.arm
        try:
            proof: Mapping[str, Any] = self._repository.resolve(ref).proof
        except RepositoryUnavailable:  # the cache may have the bundle; without its proof it must be bit for bit
            proof = {}
        pool, bundles = Pool(), {loaded: self._repository.load(ref)}
        assembly = assemble(deployment, declared.reader, bundles, self._writers, pool, declared.revision)
        log.info("recomputes with %s@%s under revision %d", made.model, made.version, maker.revision)
        return _Loaded(assembly, proof, pool)

    def _version(self, loaded: _Loaded, made: Made) -> Version:
        return Version(
            scorer=loaded.assembly.alone(self._output, made),
            codec=loaded.assembly.codec,
            outputs=frozenset(output.name for output in loaded.assembly.models[made.arm].outputs),
            tolerance=float((loaded.proof.get("determinism") or {}).get("tolerance") or 0.0),
            proof=loaded.proof,
            leaves=any(bundle.leaves is not None for bundle in loaded.assembly.bundles.values()),
        )


def differences(version: Version, recorded: bytes, recomputed: bytes) -> tuple[list[str], bool]:
    """Return what differs field by field, and whether no more than the version's tolerance does."""
    try:
        old = version.codec.decode(recorded)
    except (InferenceRefused, ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
        return [f"cannot be read as the inference it should be: {error or type(error).__name__}"], False
    new = version.codec.decode(recomputed)
    found = [name for name in new if not _same(old[name], new[name], 0.0)]
    told = [f"{name}: {old[name]!r:.80} recorded, {new[name]!r:.80} recomputed" for name in found]
    within = bool(version.tolerance) and all(
        name in version.outputs and _same(old[name], new[name], version.tolerance) for name in found
    )
    return told or ["the same fields in other bytes"], within


def _same(old: Any, new: Any, tolerance: float) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_same(a, b, tolerance) for a, b in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, float):
        both_nan = math.isnan(old) and math.isnan(new)
        return old == new or both_nan or abs(old - new) <= tolerance * max(1.0, abs(old))
    return bool(old == new)

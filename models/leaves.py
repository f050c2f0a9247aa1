"""The models of a hierarchy below its root: which there are, under which values, and how a bundle keeps them.

`leaves/INDEX.json` says which model stands under which path of values. Each model is one part, `leaves/SHA256.onnx.gz`,
named after the sha256 of its ONNX bytes, so equal models are stored once. A part is read when its leaf is needed, and
compared with its name then: thousands of models need not sit in memory.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.errors import BundleAltered, BundleInvalid
from models.manifest import Partitions

INDEX = "leaves/INDEX.json"
PART = re.compile(r"leaves/([0-9a-f]{64})\.onnx\.gz")
LEAF_BYTES = 1 << 30  # of one model
PYTHON: dict[str, type] = {"string": str, "int64": int, "bool": bool}

Key = str | int | bool
Path = tuple[Key, ...]  # values of the fields of a hierarchy from the top; (): its root


def part_of(digest: str) -> str:
    """The part of a bundle that holds the model with this sha256."""
    return f"leaves/{digest}.onnx.gz"


def name_of(path: Path) -> str:
    """A path as inferences name it: `DE/Berlin`, empty for the root.

    A slash inside of a value is written %2F and a percent sign %25, so that no two paths have one name.
    """
    return "/".join(_text(key) for key in path)


def _text(key: Key) -> str:
    text = str(key).lower() if isinstance(key, bool) else str(key)
    return text.replace("%", "%25").replace("/", "%2F")


def key_problem(key: Any, kind: str) -> str:
    """What keeps a value from telling models apart in a field of this type; empty where nothing does."""
    if type(key) is not PYTHON[kind]:
        return f"{key!r} is no {kind}"
    if key == "":
        return "an empty text names no leaf: events that have it go to the parent"
    if type(key) is str and not _is_utf8(key):
        return f"{key!r} has no UTF-8, so no event can have it"
    if type(key) is int and not -(2**63) <= key < 2**63:
        return f"{key} does not fit 64 bits"
    return ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def pack(model: bytes) -> bytes:
    """A model as its part holds it; `gunzip` gives it back."""
    return gzip.compress(model, 6, mtime=0)  # without the time equal models are equal bytes


def unpack(content: bytes, digest: str, size: int) -> bytes:
    """The model that a part holds; raises BundleAltered unless it has this sha256 and so many bytes."""
    try:
        model = zlib.decompressobj(wbits=31).decompress(content, size + 1)
    except zlib.error:
        model = b""
    if len(model) != size or hashlib.sha256(model).hexdigest() != digest:
        raise BundleAltered(f"{part_of(digest)} is not the model that it is named after; get the bundle again")
    return model


@dataclass(frozen=True, slots=True)
class Index:
    """Which models there are. leaves: path and sha256, in the order of the paths; sizes: bytes of each sha256."""

    leaves: tuple[tuple[Path, str], ...]
    sizes: Mapping[str, int]

    def to_json(self) -> bytes:
        """The index as the bytes that stand in a bundle, a leaf a line."""
        lines = ",\n".join(json.dumps([list(path), digest], ensure_ascii=False) for path, digest in self.leaves)
        sizes = ",\n".join(f'"{digest}": {size}' for digest, size in sorted(self.sizes.items()))
        return f'{{"leaves": [\n{lines}\n],\n"models": {{\n{sizes}\n}}}}\n'.encode()

    @classmethod
    def from_json(cls, text: bytes, partitions: Partitions) -> Index:
        """Parse a bundle's index; raises BundleInvalid where it makes no sense, or less or more than declared."""
        try:
            stated = json.loads(text)
            leaves = tuple((_listed(path), str(digest)) for path, digest in stated["leaves"])
            sizes = {str(digest): size for digest, size in stated["models"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BundleInvalid(f"{INDEX} is no index of leaves: {error!r}; build the bundle again") from error
        index = cls(leaves, sizes)
        if problem := next(index._problems(partitions), None):
            raise BundleInvalid(f"{INDEX}: {problem}; build the bundle again")
        return index

    def counts(self) -> dict[str, int]:
        """The numbers that the manifest repeats."""
        return {"leaves": len(self.leaves), "models": len(self.sizes), "bytes": sum(self.sizes.values())}

    def _problems(self, partitions: Partitions) -> Iterator[str]:
        kinds = [field.type for field in partitions.fields]
        for path, digest in self.leaves:
            if not 0 < len(path) <= len(kinds):
                yield f"leaf {list(path)} has {len(path)} values, the hierarchy has {len(kinds)} fields"
            for key, kind in zip(path, kinds, strict=False):
                if problem := key_problem(key, kind):
                    yield f"leaf {list(path)}: {problem}"
            if digest not in self.sizes:
                yield f"leaf {list(path)} has the model {digest}, which is not listed"
        for digest, size in self.sizes.items():
            if not PART.fullmatch(part_of(digest)) or type(size) is not int or not 0 < size <= LEAF_BYTES:
                yield f"model {digest} of {size} bytes"
        if len({path for path, _ in self.leaves}) != len(self.leaves):
            yield "a leaf is listed twice"
        if self.sizes.keys() != {digest for _, digest in self.leaves}:
            yield "a model is listed that no leaf has"
        if max((len(path) for path, _ in self.leaves), default=0) < len(kinds):
            yield f"no leaf has a value of {partitions.fields[-1].name}"
        if any(getattr(partitions, name) != count for name, count in self.counts().items()):
            yield "its leaves, models or bytes are not as many as the manifest says"


def _listed(path: Any) -> Path:
    if not isinstance(path, list):
        raise TypeError(f"{path!r} is no list of values")
    return tuple(path)


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaves of a bundle, whose models are read from its parts when they are asked for."""

    index: Index
    parts: Mapping[str, bytes] = field(compare=False, repr=False)

    @property
    def digests(self) -> tuple[str, ...]:
        """The different models, in the order of the first leaf that has each."""
        return tuple(dict.fromkeys(digest for _, digest in self.index.leaves))

    @property
    def places(self) -> dict[str, str]:
        """The name of the first leaf that has each model."""
        return {digest: name_of(path) for path, digest in reversed(self.index.leaves)}

    def rows(self, partitions: Partitions) -> list[dict[str, Key]]:
        """The values of the hierarchy's fields that lead to each leaf."""
        names = [field.name for field in partitions.fields]
        return [dict(zip(names, path, strict=False)) for path, _ in self.index.leaves]

    def model(self, digest: str) -> bytes:
        """The ONNX bytes with this sha256; raises BundleAltered when they are no longer what they were."""
        return unpack(self.parts[part_of(digest)], digest, self.index.sizes[digest])

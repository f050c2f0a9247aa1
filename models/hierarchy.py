"""A hierarchy of models put together: leaves from a caller are packed, and held against the model that describes all.

One contract holds for the whole hierarchy, because a row must be scored by whichever model is the most specific for it:
inputs, outputs and classes of every leaf are those of the root, or of the first leaf where there is no root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.describe import disagreements
from models.errors import BundleInvalid, ModelError
from models.graph import Examined, Port, examine
from models.leaves import INDEX, PYTHON, Index, Key, Leaves, Path, key_problem, name_of, pack, part_of
from models.manifest import Manifest

Given = Mapping[Any, bytes] | Iterable[tuple[Any, bytes]]  # a path, or the only value of one, and its model
KINDS = {python: kind for kind, python in PYTHON.items()}


@dataclass(frozen=True, slots=True)
class Gathered:
    """Leaves as a bundle keeps them.

    fields: name and type of each level. graphs: what each model is, without its bytes, by sha256.
    """

    fields: Sequence[Mapping[str, str]]
    index: Index
    parts: Mapping[str, bytes]
    graphs: Mapping[str, Examined]

    @property
    def leaves(self) -> Leaves:
        return Leaves(self.index, self.parts)

    def told(self, output: str, root: bool) -> dict[str, Any]:
        """What the manifest says of it. output: the field that names the leaf; root: there is a model above all."""
        return {"fields": self.fields, "output": output, "root": root, **self.index.counts()}

    def check(self, manifest: Manifest, described: Examined) -> None:
        """Raise BundleInvalid, naming each leaf that does not keep the contract, up to ten."""
        found, places = [*unclear(manifest, described)], self.leaves.places
        for digest in self.leaves.digests:
            found += [
                f"leaf {places[digest]}: {what}" for what in differences(manifest, described, self.graphs[digest])
            ]
        if found:
            more = f"\nand {len(found) - 10} more" if len(found) > 10 else ""
            raise BundleInvalid("all models of a hierarchy have one contract:\n" + "\n".join(found[:10]) + more)


def gather(partition_by: str | Sequence[str], leaves: Given) -> Gathered:
    """Examine and pack leaves.

    partition_by: the event fields from the top. leaves: a path such as ("DE", "Berlin"), or the value itself where
    there is one field, with its ONNX bytes; pairs may come one by one, so that not all of them are in memory.
    Raises BundleInvalid or ModelRefused, which name the leaf.
    """
    names = [partition_by] if isinstance(partition_by, str) else list(partition_by)
    if not names:
        raise BundleInvalid("leaves need partition_by: the event fields whose values tell them apart, from the top")
    found: dict[Path, str] = {}
    parts: dict[str, bytes] = {}
    graphs: dict[str, Examined] = {}
    sizes: dict[str, int] = {}
    for given, model in leaves.items() if isinstance(leaves, Mapping) else leaves:
        path = _path(given, names)
        if path in found:
            raise BundleInvalid(f"leaf {name_of(path)} is given twice")
        digest = found[path] = hashlib.sha256(model).hexdigest()
        if digest not in sizes:
            graphs[digest] = replace(examined_leaf(name_of(path), model), model=b"")
            parts[part_of(digest)], sizes[digest] = pack(model), len(model)
    if not found:
        raise BundleInvalid("partition_by needs leaves: a model for at least one value")
    fields = [_field(level, name, found) for level, name in enumerate(names)]
    index = Index(tuple(sorted(found.items())), sizes)
    return Gathered(fields, index, {**parts, INDEX: index.to_json()}, graphs)


def _path(given: Any, names: Sequence[str]) -> Path:
    keys: Iterable[Any] = given if isinstance(given, (tuple, list)) else (given,)
    path: tuple[Key, ...] = tuple(key.item() if isinstance(key, np.generic) else key for key in keys)
    if not 0 < len(path) <= len(names):
        raise BundleInvalid(
            f"leaf {list(path)} has {len(path)} values, partition_by has {len(names)} fields: give a leaf one value "
            "for each field down to its own; the model of all other rows is `model`"
        )
    for key in path:
        kind = KINDS.get(type(key))
        problem = key_problem(key, kind) if kind else f"{key!r} is neither text, integer nor boolean"
        if problem:
            raise BundleInvalid(f"leaf {list(path)}: {problem}")
    return path


def _field(level: int, name: str, found: Iterable[Path]) -> dict[str, str]:
    kinds = {KINDS[type(path[level])] for path in found if len(path) > level}
    if not kinds:
        raise BundleInvalid(f"no leaf has a value of {name}: leave {name} out of partition_by")
    if len(kinds) > 1:
        raise BundleInvalid(f"the values of {name} are of the types {', '.join(sorted(kinds))}: give them one type")
    return {"name": name, "type": kinds.pop()}


def examined_leaf(place: str, model: bytes) -> Examined:
    """`models.graph.examine`, whose errors name the leaf."""
    try:
        return examine(model)
    except ModelError as error:
        raise type(error)(f"leaf {place}: {error}") from error


def row_shape(port: Port) -> tuple[int, ...] | None:
    """The shape of a row of an output: () for one value, (n,) for n; None where the graph does not say it."""
    if port.rank == 1:
        return ()
    return (port.width,) if port.rank == 2 and port.width is not None else None


def row_shapes(manifest: Manifest, described: Examined) -> dict[str, tuple[int, ...] | None]:
    """The shape of a row of each graph output that the manifest reads, in its order."""
    ports = {port.name: port for port in described.outputs}
    return {output.tensor: row_shape(ports[output.tensor]) for output in manifest.outputs}


def unclear(manifest: Manifest, described: Examined) -> Iterator[str]:
    """Outputs of which the graph does not say enough to tell that all leaves give the same."""
    for name, shape in row_shapes(manifest, described).items():
        if shape is None:
            yield f"output {name}: the graph does not say how many columns it has; export it with their number"


def differences(manifest: Manifest, described: Examined, leaf: Examined) -> Iterator[str]:
    """Where a leaf does not keep the contract. described: the model that the manifest was read from."""
    if found := disagreements(manifest, leaf):
        yield from found
        return
    shapes = row_shapes(manifest, described)
    for name, shape in row_shapes(manifest, leaf).items():
        if shape != shapes[name]:
            yield f"output {name} has rows of the shape {_said(shape)}, not {_said(shapes[name])}"
    types = {port.name: port.type for port in described.outputs}
    for port in leaf.outputs:
        if port.name in shapes and port.type != types[port.name]:
            yield f"output {port.name} is {port.type}, not {types[port.name]}"
    if leaf.class_labels != described.class_labels:
        yield f"its classes are {_listed(leaf.class_labels)}, not {_listed(described.class_labels)}"


def _said(shape: tuple[int, ...] | None) -> str:
    return "unknown" if shape is None else str(list(shape))


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:10]) + (" ..." if len(labels) > 10 else "") or "none"

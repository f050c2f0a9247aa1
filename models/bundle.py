"""A bundle: one version of a model with everything that is needed to check, run and watch it, under one digest.

A folder or a zip with `manifest.json`, `model.onnx`, `reference.json` (optional) and `SHA256SUMS`; a hierarchy of
models has `leaves/` besides (`models.leaves`), and `model.onnx` is its root, which may be absent. The sums are in
the format of `sha256sum`, one line per part in the order of their names; their own sha256 is the digest. So the
folder and the zip have the same digest, one altered byte in any part is found, and `sha256sum -c SHA256SUMS` agrees.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from models.errors import BundleAltered, BundleInvalid, ReferenceInvalid
from models.leaves import INDEX, PART, Index, Leaves, part_of
from models.manifest import Manifest, now
from models.parts import MANIFEST, MODEL, REFERENCE, SUMS, read_folder, read_zip, write_folder, write_zip

if TYPE_CHECKING:
    from models.hierarchy import Gathered, Given


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of a model. digest: sha256 in hex over all parts; immutable once it is built.

    model: what the manifest describes: the model, the root of a hierarchy, or its first leaf where there is no root.
    leaves: those of a hierarchy; None: there is one model for all rows.
    """

    manifest: Manifest
    model: bytes
    reference: bytes | None
    parts: Mapping[str, bytes]
    digest: str
    leaves: Leaves | None = None

    @classmethod
    def build(
        cls,
        *,
        name: str,
        model: bytes | None = None,
        reference: bytes | None = None,
        features: Any = None,
        outputs: Any = None,
        partition_by: str | Sequence[str] = (),
        leaves: Given = (),
        partition_output: str = "partition",
        version: str | None = None,
        created: datetime | None = None,
        **manifest: Any,
    ) -> Bundle:
        """Make a bundle of an ONNX model; inputs, outputs and the summary are read from its graph.

        features: the event fields of a matrix input from left to right, or a mapping from input name to field name(s);
            not needed where every input has one column and the name of its field.
        outputs: `models.manifest.Output` values or dicts where the derived ones will not do, or a mapping from graph
            output to field name, which also chooses; None takes all outputs of the graph.
        partition_by, leaves: a hierarchy of models: event fields from the top, such as ["country", "city"], and the
            ONNX bytes of each leaf by its path, such as ("DE",) or ("DE", "Berlin"). The most specific leaf that exists
            scores a row, else `model`; without `model` such rows become dead letters. Pairs from an iterator will do.
        partition_output: the field of an inference that names the leaf that scored: "DE/Berlin", "" for `model`.
        version, created: a new uuid and the present time unless given (a seeded build gives both).
        manifest: other keys of the manifest, such as tags, author, framework, libraries, training, metrics, missing;
            card is a `models.manifest.Card` or a dict of its fields.
        Raises BundleInvalid or ModelRefused, which say what to change.
        """
        from models.describe import manifest_for
        from models.graph import examine

        gathered = _gathered(partition_by, leaves)
        if model is not None:
            described = model
        elif gathered is not None:
            described = _first(gathered.leaves)
        else:
            raise BundleInvalid("give model, or partition_by and leaves")
        content = {
            "name": name,
            "version": version or str(uuid.uuid4()),
            "created": created or now(),
            "reference": reference is not None,
            **manifest,
        }
        if gathered is not None:
            content["partitions"] = gathered.told(partition_output, model is not None)
        examined = examine(described)
        made = manifest_for(examined, features, outputs, content)
        if gathered is not None:
            gathered.check(made, examined)
        return cls.of_parts(parts_of(made, model, reference, gathered.parts if gathered else {}))

    @classmethod
    def of_parts(cls, parts: Mapping[str, bytes]) -> Bundle:
        """Check the parts of a bundle against its sums and its manifest; raises BundleAltered or BundleInvalid."""
        required = (SUMS, MANIFEST, INDEX) if INDEX in parts and MODEL not in parts else (SUMS, MANIFEST, MODEL)
        missing = [part for part in required if part not in parts]
        if missing:
            raise BundleInvalid(f"this is not a bundle: {', '.join(missing)} is missing")
        _check_sums(parts)
        manifest = Manifest.from_json(parts[MANIFEST])
        if manifest.reference != (REFERENCE in parts):
            raise BundleInvalid(f"the manifest and the parts disagree about {REFERENCE}")
        leaves = _leaves(manifest, parts)
        model = parts[MODEL] if leaves is None or MODEL in parts else _first(leaves)
        digest = hashlib.sha256(parts[SUMS]).hexdigest()
        return cls(manifest, model, parts.get(REFERENCE), parts, digest, leaves)

    def with_reference(self, reference: bytes, version: str | None = None, created: datetime | None = None) -> Bundle:
        """Return a new version: the same model with this reference profile, in place of the one that it may have.

        version, created: as of `build`. Raises ReferenceInvalid for bytes that are none, or outputs that the model has
        not.
        """
        from models.reference import Reference

        read = Reference.from_bytes(reference)
        known = {field.name for field in self.manifest.fields}
        if unknown := sorted({bins.name for bins in read.outputs} - known):
            raise ReferenceInvalid(
                f"the reference has the output {unknown[0]}, which {self.manifest.name} does not give; it gives "
                f"{', '.join(sorted(known))}: build the reference with the outputs of this model"
            )
        changed = {"version": version or str(uuid.uuid4()), "created": created or now(), "reference": True}
        manifest = self.manifest.model_copy(update=changed)
        others = {name: part for name, part in self.parts.items() if name not in (MANIFEST, MODEL, REFERENCE, SUMS)}
        return Bundle.of_parts(parts_of(manifest, self.parts.get(MODEL), reference, others))

    @classmethod
    def read(cls, source: str | Path | bytes) -> Bundle:
        """Read a bundle from a folder, a zip file or a zip's bytes, and verify it.

        Raises BundleInvalid when it is no bundle and BundleAltered when its bytes are not those of its digest.
        """
        if isinstance(source, bytes):
            return cls.of_parts(read_zip(source))
        path = Path(source)
        try:
            return cls.of_parts(read_folder(path) if path.is_dir() else read_zip(path))
        except OSError as error:
            raise BundleInvalid(f"{path} cannot be read: {error.strerror or error}") from error

    def write(self, path: str | Path) -> Path:
        """Write the bundle as a zip when the path ends in .zip, else as a folder; returns the path.

        Raises BundleInvalid for a zip that is too large to be read again.
        """
        target = Path(path)
        if target.suffix != ".zip":
            write_folder(self.parts, target)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.unfinished")
        try:
            with unfinished.open("wb") as file:
                self.write_zip(file)
        except BaseException:
            unfinished.unlink()
            raise
        return unfinished.replace(target)  # the leaves may still be read from the file that is there

    def write_zip(self, file: IO[bytes]) -> None:
        """Write the bundle as a zip into a file that is open; equal bundles give equal bytes. Raises BundleInvalid."""
        write_zip(self.parts, file)

    def to_zip(self) -> bytes:
        """The bundle as the bytes of a zip; equal bundles give equal bytes."""
        buffer = io.BytesIO()
        self.write_zip(buffer)
        return buffer.getvalue()


def parts_of(
    manifest: Manifest, model: bytes | None, reference: bytes | None, leaves: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """The parts of a bundle by file name, with their sums. leaves: the parts of a hierarchy beside its root."""
    parts = {MANIFEST: manifest.to_json(), **(leaves or {})}
    if model is not None:
        parts[MODEL] = model
    if reference is not None:
        parts[REFERENCE] = reference
    parts[SUMS] = _sums(parts)
    return parts


def _gathered(partition_by: str | Sequence[str], leaves: Given) -> Gathered | None:
    from models.hierarchy import gather

    if not partition_by and not leaves:
        return None
    return gather(partition_by, leaves)


def _leaves(manifest: Manifest, parts: Mapping[str, bytes]) -> Leaves | None:
    """The leaves that parts hold; raises BundleInvalid where manifest, index and parts disagree about them."""
    partitions = manifest.partitions
    stored = {name for name in parts if PART.fullmatch(name)}
    if partitions is None:
        if stored or INDEX in parts:
            raise BundleInvalid("the manifest says nothing of the leaves that the bundle holds")
        return None
    if INDEX not in parts or partitions.root != (MODEL in parts):
        raise BundleInvalid(f"the manifest and the parts disagree about {MODEL} or {INDEX}")
    index = Index.from_json(parts[INDEX], partitions)
    if stored != {part_of(digest) for digest in index.sizes}:
        raise BundleInvalid(f"{INDEX} lists other models than the bundle holds")
    return Leaves(index, parts)


def _first(leaves: Leaves) -> bytes:
    return leaves.model(leaves.digests[0])


def _sums(parts: Mapping[str, bytes]) -> bytes:
    lines = (f"{hashlib.sha256(parts[part]).hexdigest()}  {part}\n" for part in sorted(parts) if part != SUMS)
    return "".join(lines).encode()


def _check_sums(parts: Mapping[str, bytes]) -> None:
    expected = _sums(parts)
    if parts[SUMS] == expected:
        return
    stated = set(parts[SUMS].split(b"\n"))
    altered = [line[66:].decode() for line in expected.splitlines() if line not in stated]
    raise BundleAltered(
        f"the bundle was altered: {', '.join(altered[:10]) or SUMS} does not match {SUMS}; "
        "get the bundle again from where it was built"
    )

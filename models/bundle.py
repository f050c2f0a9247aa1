"""A bundle: one version of a model with everything that is needed to check, run and watch it, under one digest.

A folder or a zip with `manifest.json`, `model.onnx`, `reference.json` (optional) and `SHA256SUMS`. The sums are in
the format of `sha256sum`, one line per part in the order of their names; their own sha256 is the digest. So the
folder and the zip have the same digest, one altered byte in any part is found, and `sha256sum -c SHA256SUMS` agrees.
"""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from models.errors import BundleAltered, BundleInvalid
from models.manifest import Manifest, now

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
REFERENCE = "reference.json"
REQUIRED = (MANIFEST, MODEL)
PART_BYTES = {MANIFEST: 4 << 20, MODEL: 1 << 30, REFERENCE: 64 << 20, SUMS: 4096}
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # constant, so that equal bundles are equal files


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of a model. digest: sha256 in hex over all parts; immutable once it is built."""

    manifest: Manifest
    model: bytes
    reference: bytes | None
    parts: Mapping[str, bytes]
    digest: str

    @classmethod
    def build(
        cls,
        *,
        name: str,
        model: bytes,
        reference: bytes | None = None,
        features: Any = None,
        outputs: Any = None,
        version: str | None = None,
        created: datetime | None = None,
        **manifest: Any,
    ) -> Bundle:
        """Make a bundle of an ONNX model; inputs, outputs and the summary are read from its graph.

        features: the event fields of a matrix input from left to right, or a mapping from input name to field name(s);
            not needed where every input has one column and the name of its field.
        outputs: `models.manifest.Output` values or dicts where the derived ones will not do, or a mapping from graph
            output to field name, which also chooses; None takes all outputs of the graph.
        version, created: a new uuid and the present time unless given (a seeded build gives both).
        manifest: other keys of the manifest, such as tags, author, framework, libraries, training, metrics, missing;
            card is a `models.manifest.Card` or a dict of its fields.
        Raises BundleInvalid or ModelRefused, which say what to change.
        """
        from models.describe import manifest_for
        from models.graph import examine

        examined = examine(model)
        content = {
            "name": name,
            "version": version or str(uuid.uuid4()),
            "created": created or now(),
            "reference": reference is not None,
            **manifest,
        }
        return cls.of_parts(parts_of(manifest_for(examined, features, outputs, content), model, reference))

    @classmethod
    def of_parts(cls, parts: Mapping[str, bytes]) -> Bundle:
        """Check the parts of a bundle against its sums and its manifest; raises BundleAltered or BundleInvalid."""
        missing = [part for part in (SUMS, *REQUIRED) if part not in parts]
        if missing:
            raise BundleInvalid(f"this is not a bundle: {', '.join(missing)} is missing")
        _check_sums(parts)
        manifest = Manifest.from_json(parts[MANIFEST])
        if manifest.reference != (REFERENCE in parts):
            raise BundleInvalid(f"the manifest and the parts disagree about {REFERENCE}")
        digest = hashlib.sha256(parts[SUMS]).hexdigest()
        return cls(manifest, parts[MODEL], parts.get(REFERENCE), dict(parts), digest)

    @classmethod
    def read(cls, source: str | Path | bytes) -> Bundle:
        """Read a bundle from a folder, a zip file or a zip's bytes, and verify it.

        Raises BundleInvalid when it is no bundle and BundleAltered when its bytes are not those of its digest.
        """
        if isinstance(source, bytes):
            return cls.of_parts(_unzip(source))
        path = Path(source)
        try:
            return cls.of_parts(_read_folder(path) if path.is_dir() else _read_zip(path))
        except OSError as error:
            raise BundleInvalid(f"{path} cannot be read: {error.strerror or error}") from error

    def write(self, path: str | Path) -> Path:
        """Write the bundle as a zip when the path ends in .zip, else as a folder; returns the path."""
        target = Path(path)
        if target.suffix == ".zip":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.to_zip())
            return target
        target.mkdir(parents=True, exist_ok=True)
        for stale in set(PART_BYTES) - set(self.parts):
            (target / stale).unlink(missing_ok=True)
        for part, content in self.parts.items():
            (target / part).write_bytes(content)
        return target

    def to_zip(self) -> bytes:
        """The bundle as the bytes of a zip; equal bundles give equal bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for part in sorted(self.parts):
                archive.writestr(zipfile.ZipInfo(part, ZIP_TIME), self.parts[part])
        return buffer.getvalue()


def parts_of(manifest: Manifest, model: bytes, reference: bytes | None) -> dict[str, bytes]:
    """The parts of a bundle by file name, with their sums."""
    parts = {MANIFEST: manifest.to_json(), MODEL: model}
    if reference is not None:
        parts[REFERENCE] = reference
    parts[SUMS] = _sums(parts)
    return parts


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
        f"the bundle was altered: {', '.join(altered) or SUMS} does not match {SUMS}; "
        "get the bundle again from where it was built"
    )


def _too_large(part: str) -> BundleInvalid:
    return BundleInvalid(f"{part} has more than {PART_BYTES[part]} bytes")


def _read_folder(folder: Path) -> dict[str, bytes]:
    parts = {}
    for entry in sorted(folder.iterdir()):
        if entry.name not in PART_BYTES or entry.is_symlink() or not entry.is_file():
            raise BundleInvalid(f"{entry} does not belong in a bundle: its files are {', '.join(PART_BYTES)}")
        if entry.stat().st_size > PART_BYTES[entry.name]:
            raise _too_large(entry.name)
        parts[entry.name] = entry.read_bytes()
    return parts


def _read_zip(path: Path) -> dict[str, bytes]:
    if path.stat().st_size > 2 * sum(PART_BYTES.values()):
        raise BundleInvalid(f"{path} is too large for a bundle")
    return _unzip(path.read_bytes(), str(path))


def _unzip(archive: bytes, where: str = "the bundle") -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for info in opened.infolist():
                if info.filename not in PART_BYTES or info.filename in parts:
                    raise BundleInvalid(f"{info.filename!r} does not belong in a bundle")
                if info.file_size > PART_BYTES[info.filename]:
                    raise _too_large(info.filename)
                parts[info.filename] = opened.read(info)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise BundleAltered(
            f"{where} was altered or is no zip: {error}; get it again from where it was built "
            "(an .onnx file becomes a bundle by penstock.Bundle.build)"
        ) from error
    return parts

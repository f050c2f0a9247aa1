"""The parts of a bundle where they lie: a folder, a zip file or a zip's bytes.

What does not belong there is refused by its name and its size, before it is read. The models of leaves may be many:
each is read when it is asked for, all others at once.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from models.errors import BundleAltered, BundleInvalid
from models.leaves import INDEX, LEAF_BYTES, PART

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
REFERENCE = "reference.json"
PART_BYTES = {MANIFEST: 4 << 20, MODEL: 1 << 30, REFERENCE: 64 << 20, SUMS: 32 << 20, INDEX: 64 << 20}
ZIP_BYTES = 2 * sum(PART_BYTES.values())  # of a bundle
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # constant, so that equal bundles are equal files

Parts = Mapping[str, bytes]


class Stored(Parts):
    """Parts of a bundle by name. small: those that were read; leaves: the names of the others; read: reads one.

    Reading raises BundleAltered.
    """

    def __init__(self, small: Parts, leaves: list[str], read: Callable[[str], bytes]) -> None:
        self._small, self._leaves, self._read = small, dict.fromkeys(leaves), read

    def __getitem__(self, name: str) -> bytes:
        if name not in self._leaves:
            return self._small[name]
        try:
            return self._read(name)
        except (OSError, *_ZIP_ERRORS) as error:
            raise BundleAltered(f"{name} cannot be read: {error}; get the bundle again") from error

    def __iter__(self) -> Iterator[str]:
        yield from self._small
        yield from self._leaves

    def __len__(self) -> int:
        return len(self._small) + len(self._leaves)

    def __contains__(self, name: object) -> bool:
        return name in self._small or name in self._leaves


_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error)


def limit(name: str) -> int | None:
    """The bytes that a part may have; None for what is no part of a bundle."""
    return LEAF_BYTES if PART.fullmatch(name) else PART_BYTES.get(name)


def read_folder(folder: Path) -> Parts:
    """Read the parts in a folder; raises BundleInvalid for what is none, and OSError."""
    small: dict[str, bytes] = {}
    leaves: list[str] = []
    for path in _entries(folder):
        name = path.relative_to(folder).as_posix()
        most = limit(name)
        if most is None or path.is_symlink() or not path.is_file():
            raise BundleInvalid(f"{path} does not belong in a bundle: its files are {', '.join(PART_BYTES)}")
        if path.stat().st_size > most:
            raise _too_large(name, most)
        if PART.fullmatch(name):
            leaves.append(name)
        else:
            small[name] = path.read_bytes()
    return Stored(small, leaves, lambda name: (folder / name).read_bytes()) if leaves else small


def _entries(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name == "leaves" and path.is_dir() and not path.is_symlink():
            yield from sorted(path.iterdir())
        else:
            yield path


def write_folder(parts: Parts, folder: Path) -> None:
    """Write the parts into a folder, and remove what an earlier bundle left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*_entries(folder)]:
        name = path.relative_to(folder).as_posix()
        if limit(name) is not None and name not in parts:
            path.unlink()
    for name in parts:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(parts[name])


def read_zip(source: Path | bytes) -> Parts:
    """Read the parts in a zip; raises BundleInvalid for what is none, BundleAltered for what is no zip, and OSError.

    A file stays open for as long as its leaves may be asked for.
    """
    if isinstance(source, bytes):
        return _unzip(io.BytesIO(source), "the bundle")
    if source.stat().st_size > ZIP_BYTES:
        raise _too_large_a_zip(str(source))
    return _unzip(source, str(source))


def _unzip(source: Path | io.BytesIO, where: str) -> Parts:
    try:
        opened = zipfile.ZipFile(source)
        small, leaves = _members(opened)
    except _ZIP_ERRORS as error:
        raise BundleAltered(
            f"{where} was altered or is no zip: {error}; get it again from where it was built "
            "(an .onnx file becomes a bundle by penstock.Bundle.build)"
        ) from error
    if leaves:
        return Stored(small, leaves, opened.read)
    opened.close()
    return small


def _members(opened: zipfile.ZipFile) -> tuple[dict[str, bytes], list[str]]:
    """The parts that are read at once, and the names of the others."""
    small: dict[str, bytes] = {}
    leaves: dict[str, None] = {}
    for info in opened.infolist():
        name, most = info.filename, limit(info.filename)
        if most is None or name in small or name in leaves:
            raise BundleInvalid(f"{name!r} does not belong in a bundle")
        if info.file_size > most:
            raise _too_large(name, most)
        if PART.fullmatch(name):
            leaves[name] = None
        else:
            small[name] = opened.read(info)
    return small, [*leaves]


def write_zip(parts: Parts, file: IO[bytes]) -> None:
    """Write the parts as a zip; equal parts give equal bytes. Raises BundleInvalid when `read_zip` would refuse it."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(parts):
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), parts[name])
            if file.tell() > ZIP_BYTES:
                raise _too_large_a_zip("it")
    if file.tell() > ZIP_BYTES:  # with its list of parts
        raise _too_large_a_zip("it")


def _too_large(name: str, most: int) -> BundleInvalid:
    return BundleInvalid(f"{name} has more than {most} bytes")


def _too_large_a_zip(what: str) -> BundleInvalid:
    return BundleInvalid(
        f"{what} is too large for a bundle, which has {ZIP_BYTES >> 20} MiB at most as a zip: build it with fewer or "
        "smaller leaves"
    )

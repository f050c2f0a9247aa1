"""Where versions of models live: a folder, S3, GCS or any other file system that fsspec reaches.

    ROOT/NAME/VERSION/bundle.zip      the bundle; never written twice
    ROOT/NAME/VERSION/entry.json      its digest, proof and manifest; written last, so it makes the version visible
    ROOT/NAME/VERSION/tags/TAG.json   when the tag was put on the version

A tag points at the version that it was put on last: putting it on another version moves it, taking it off that one
moves it back. The cache holds bundles by digest and what a reference last meant, so that a worker starts while the
repository is away.
"""

from __future__ import annotations

import filecmp
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec

from models.bundle import Bundle
from models.errors import BundleAltered, BundleInvalid, ModelNotFound, RepositoryUnavailable
from models.manifest import UUID_TEXT, Manifest, now

log = logging.getLogger(__name__)
BEGINNING = re.compile(r"^[0-9a-f]{8}[0-9a-f-]{0,27}$")  # of a version, as people copy it
DEFAULT_CACHE = Path(".penstock/cache/models")
COPIED = 1 << 20  # bytes at a time


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in the repository. tags: those that were put on it; proof: what `add` found out by running it."""

    manifest: Manifest
    digest: str
    proof: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    added: str = ""

    @property
    def ref(self) -> str:
        return self.manifest.ref


class Repository:
    """Versions of models under one URL (`.penstock/models`, `s3://bucket/models`, ...).

    cache: folder for bundles that were read; None: `.penstock/cache/models`.
    Methods raise RepositoryUnavailable when the file system does not answer.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        self.url, self._whole_url = _without_password(url), url
        self._cache = cache or DEFAULT_CACHE
        self._reached: tuple[Any, str] | None = None
        with suppress(OSError):  # some connect already here: what the cache has needs nobody that answers
            self._reach()

    # what is there

    def list(self, name: str | None = None) -> Sequence[Entry]:
        """Every version, or those of one model, in the order of name and creation."""
        entries = [self._entry(path) for path in self._glob(self._path(name or "*", "*", "entry.json"))]
        return sorted(entries, key=lambda entry: (entry.manifest.name, entry.manifest.created, entry.manifest.version))

    def resolve(self, ref: str) -> Entry:
        """The version that `NAME@TAG` or `NAME@VERSION` means now; raises ModelNotFound naming what there is.

        The beginning of a version is one, too: 8 characters or more that no other version of the model begins with.
        """
        name, _, wanted = ref.partition("@")
        if not name or not wanted:
            raise ModelNotFound(f"{ref!r} is no reference to a model: write NAME@TAG or NAME@VERSION")
        version = wanted if UUID_TEXT.match(wanted) else self._tagged(name, wanted) or self._begun(name, wanted)
        path = self._path(name, version or "-", "entry.json")
        if version is None or not self._guard(self._fs.exists, path):
            self._refuse_absent_root()
            raise ModelNotFound(self._not_found(name, wanted))
        return self._entry(path)

    def load(self, ref: str | Entry) -> Bundle:
        """The verified bundle of a reference, from the cache where it is there.

        Raises ModelNotFound, BundleAltered when the bytes are not those that were added, and RepositoryUnavailable when
        neither repository nor cache can say what the reference means.
        """
        entry = ref if isinstance(ref, Entry) else None
        try:
            entry = entry or self.resolve(str(ref))
            digest = entry.digest
            self._remember(str(ref) if isinstance(ref, str) else entry.ref, digest)
        except RepositoryUnavailable:
            digest = self._remembered(str(ref))
            log.warning("the repository %s does not answer; %s is taken from the cache as %s", self.url, ref, digest)
        cached = self._cached(digest)
        if cached is not None:
            return cached
        if entry is None:
            raise RepositoryUnavailable(f"the repository {self.url} does not answer, and the cache lacks {ref}")
        return self._fetch(entry)

    def load_pinned(self, ref: str, digest: str) -> Bundle:
        """The verified bundle of NAME@VERSION that has this digest, from the cache where it is there.

        Raises BundleAltered when the repository has another one, and the errors of `load`.
        """
        cached = self._cached(digest)
        if cached is not None:
            return cached
        entry = self.resolve(ref)
        if entry.digest != digest:
            raise BundleAltered(
                f"{ref} in {self.url} has the digest {entry.digest}, and {digest} is asked for: it was replaced; add "
                "the bundle that was meant again"
            )
        return self._fetch(entry)

    # changes

    def add(
        self, source: Bundle | str | Path, tags: Sequence[str] = (), proof: Mapping[str, Any] | None = None
    ) -> Entry:
        """Store a bundle and put its own tags and `tags` on it; adding the same bundle again changes nothing else.

        proof: what was found out about it (`models.proof`), kept beside it.
        Raises BundleInvalid when another bundle has the same version, or the source is no bundle.
        """
        bundle = source if isinstance(source, Bundle) else Bundle.read(source)
        manifest = bundle.manifest
        path = self._path(manifest.name, manifest.version, "entry.json")
        if self._guard(self._fs.exists, path):
            if self._entry(path).digest != bundle.digest:
                raise BundleInvalid(
                    f"{manifest.ref} is in the repository with other content: build the bundle with a new version"
                )
        else:
            self._store(bundle, self._path(manifest.name, manifest.version, "bundle.zip"))
            entry = {
                "digest": bundle.digest,
                "added": now().isoformat(),
                "proof": dict(proof or {}),
                "manifest": json.loads(manifest.to_json()),
            }
            self._write(path, json.dumps(entry, indent=2).encode())
        for tag in dict.fromkeys([*manifest.tags, *tags]):
            self.tag(manifest.name, manifest.version, tag)
        return self._entry(path)

    def tag(self, name: str, version: str, tag: str) -> None:
        """Point the tag at this version of the model; raises ModelNotFound when it is not there."""
        Manifest.check_tag(tag)
        if not self._guard(self._fs.exists, self._path(name, version, "entry.json")):
            raise ModelNotFound(self._not_found(name, version))
        moment = now()
        if latest := max((put for put, _ in self._put(name, tag)), default=None):
            moment = max(moment, datetime.fromisoformat(latest) + timedelta(milliseconds=1))  # clocks may disagree
        self._write(self._path(name, version, f"tags/{tag}.json"), json.dumps({"put": moment.isoformat()}).encode())

    def untag(self, name: str, version: str, tag: str) -> None:
        """Take the tag off this version: it points again at the version that had it before, if there is one."""
        path = self._path(name, version, f"tags/{tag}.json")
        if not self._guard(self._fs.exists, path):
            raise ModelNotFound(f"{name}@{version} does not have the tag {tag}")
        self._guard(self._fs.rm, path)

    def remove(self, name: str, version: str) -> None:
        """Remove one version with its tags; raises ModelNotFound when it is not there."""
        path = self._path(name, version, "entry.json")
        if not self._guard(self._fs.exists, path):
            raise ModelNotFound(self._not_found(name, version))
        self._guard(self._fs.rm, path)  # first: from here on the version is invisible
        self._guard(self._fs.rm, self._path(name, version), recursive=True)

    # files

    def _reach(self) -> tuple[Any, str]:
        """Return the file system and the path of its root in it. Raises OSError when it does not answer."""
        if self._reached is None:
            try:
                self._reached = fsspec.core.url_to_fs(self._whole_url)
            except (ImportError, ValueError) as error:
                raise RepositoryUnavailable(f"no repository at {self.url}: {self._told(error)}") from error
        return self._reached

    @property
    def _fs(self) -> Any:
        return self._guard(self._reach)[0]

    @property
    def _root(self) -> str:
        return str(self._guard(self._reach)[1])

    def _told(self, error: Exception) -> str:
        return str(error).replace(self._whole_url, self.url)

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _guard(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except FileNotFoundError:
            raise
        except (OSError, ImportError) as error:
            raise RepositoryUnavailable(f"the repository {self.url} does not answer: {self._told(error)}") from error

    def _refuse_absent_root(self) -> None:
        if not self._guard(self._fs.exists, self._root):
            raise RepositoryUnavailable(
                f"there is no repository at {self.url}: give --repository or PENSTOCK_REPOSITORY, "
                "or add a first model with `penstock model add`"
            )

    def _glob(self, pattern: str) -> Sequence[str]:
        self._fs.invalidate_cache()  # object stores keep listings, and others write too
        return [str(path) for path in self._guard(self._fs.glob, pattern)]

    def _read(self, path: str) -> bytes:
        content = self._guard(self._fs.cat_file, path)
        assert isinstance(content, bytes)
        return content

    def _write(self, path: str, content: bytes) -> None:
        self._guard(self._fs.makedirs, path.rpartition("/")[0], exist_ok=True)
        with self._fs.transaction:  # a reader sees the file whole or not at all
            self._guard(self._fs.pipe_file, path, content)

    def _store(self, bundle: Bundle, path: str) -> None:
        """Write a bundle by way of the disk: a hierarchy of models may be larger than memory."""
        self._guard(self._fs.makedirs, path.rpartition("/")[0], exist_ok=True)
        with tempfile.TemporaryFile() as file, self._fs.transaction:
            bundle.write_zip(file)
            file.seek(0)
            self._guard(self._copy, file, path)

    def _copy(self, file: IO[bytes], path: str) -> None:
        with self._fs.open(path, "wb") as target:
            shutil.copyfileobj(file, target, COPIED)

    def _entry(self, path: str) -> Entry:
        try:
            stated = json.loads(self._read(path))
            manifest = Manifest.from_json(json.dumps(stated["manifest"]).encode())
            folder = path.rpartition("/")[0]
            tags = sorted(Path(found).stem for found in self._glob(f"{folder}/tags/*.json"))
            return Entry(manifest, stated["digest"], stated["proof"], tuple(tags), stated["added"])
        except FileNotFoundError as error:
            raise ModelNotFound(f"{path} was removed meanwhile") from error
        except (BundleInvalid, ValueError, KeyError, TypeError) as error:
            raise BundleAltered(
                f"{path} is not what `penstock model add` wrote: {error}; add the version again"
            ) from error

    def _put(self, name: str, tag: str) -> Sequence[tuple[str, str]]:
        """(when, version) of every version with the tag."""
        found = self._glob(self._path(name, "*", "tags", f"{tag}.json"))
        return [(json.loads(self._read(path))["put"], path.split("/")[-3]) for path in found]

    def _tagged(self, name: str, tag: str) -> str | None:
        return max(self._put(name, tag), default=("", None))[1]

    def _begun(self, name: str, beginning: str) -> str | None:
        """Return the one version of a model that begins so. Raises ModelNotFound where there are more."""
        if not BEGINNING.match(beginning):
            return None
        found = sorted(path.split("/")[-2] for path in self._glob(self._path(name, f"{beginning}*", "entry.json")))
        if len(found) > 1:
            raise ModelNotFound(
                f"{len(found)} versions of model {name} begin with {beginning}: {', '.join(found)}; write more of the "
                "one that you mean"
            )
        return found[0] if found else None

    def _not_found(self, name: str, wanted: str) -> str:
        entries = self.list(name)
        if not entries:
            known = sorted({entry.manifest.name for entry in self.list()})
            return f"the repository {self.url} has no model {name!r}; it has {', '.join(known) or 'none yet'}"
        tags = sorted({tag for entry in entries for tag in entry.tags})
        versions = ", ".join(entry.manifest.version for entry in entries[-5:])
        return (
            f"model {name} has no version or tag {wanted!r} in the repository {self.url}; "
            f"tags: {', '.join(tags) or 'none'}; latest versions: {versions}"
        )

    # cache

    def _fetch(self, entry: Entry) -> Bundle:
        path = self._path(entry.manifest.name, entry.manifest.version, "bundle.zip")
        try:
            size = self._guard(self._fs.size, path) or 0
        except FileNotFoundError as error:
            raise ModelNotFound(f"{entry.ref} has no bundle.zip in {self.url}; add the version again") from error
        with self._workspace(2 * size) as folder:
            file = folder / "bundle.zip"
            self._guard(self._fs.get_file, path, str(file))
            bundle = Bundle.read(file)
            again = bundle.write(folder / "again.zip")
            if bundle.digest != entry.digest or not filecmp.cmp(file, again, shallow=False):
                raise BundleAltered(f"the bundle of {entry.ref} in {self.url} was altered; add the version again")
            if folder.parent.resolve() == self._cache.resolve():
                file.replace(self._cache / f"{entry.digest}.zip")
        return bundle  # its leaves are read from the file that it opened, wherever that is by now

    @contextmanager
    def _workspace(self, size: int) -> Iterator[Path]:
        """A folder in the cache, from which a file moves in whole; elsewhere where the cache has no room for `size`."""
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(self._cache).free) < size:
                raise OSError(f"{size} bytes are needed, {free} are free")
            folder = tempfile.TemporaryDirectory(prefix="fetch-", dir=self._cache)
        except OSError as error:
            log.warning("the cache %s cannot be written: %s", self._cache, error)
            folder = tempfile.TemporaryDirectory(prefix="penstock-fetch-")
        with folder as name:
            yield Path(name)

    def _cached(self, digest: str) -> Bundle | None:
        try:
            bundle = Bundle.read(self._cache / f"{digest}.zip")
        except BundleInvalid:
            return None
        return bundle if bundle.digest == digest else None

    def _keep(self, name: str, content: bytes) -> None:
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._cache)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, self._cache / name)
        except OSError as error:
            log.warning("the cache %s cannot be written: %s", self._cache, error)

    def _memory(self, ref: str) -> str:
        from hashlib import sha256

        return f"{sha256(f'{self.url} {ref}'.encode()).hexdigest()}.ref"

    def _remember(self, ref: str, digest: str) -> None:
        if self._remembered(ref, default="") != digest:
            self._keep(self._memory(ref), digest.encode())

    def _remembered(self, ref: str, default: str | None = None) -> str:
        try:
            return (self._cache / self._memory(ref)).read_text()
        except OSError as error:
            if default is not None:
                return default
            raise RepositoryUnavailable(
                f"the repository {self.url} does not answer, and the cache {self._cache} does not know {ref}; add the "
                "model with `penstock model add`, or correct --repository or PENSTOCK_REPOSITORY"
            ) from error


def _without_password(url: str) -> str:
    """Return the address as it may stand in a log, or in what a slot says of itself."""
    try:
        address = urlsplit(url).netloc
    except ValueError:  # no address that anybody answers at
        return url
    return url.replace(f"//{address}", f"//{address.rpartition('@')[2]}", 1) if "@" in address else url

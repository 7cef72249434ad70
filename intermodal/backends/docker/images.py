"""Finding an image and the identity of its content."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker.errors
from docker import APIClient

from intermodal.backends.docker.client import CONNECTION_ERRORS, explain
from intermodal.backends.docker.container import EngineTraits
from intermodal.backends.docker.temporary import owner_labels
from intermodal.engine.backend import Image, PullPolicy
from intermodal.engine.temporary import Temporary
from intermodal.errors import EnvironmentProblem

CONTENT_SCHEMA = 1
"""Part of the content hash and of the memo's name: a change of what is hashed is a change of identity."""
LOCAL_PREFIX = "intermodal/"
# The grammar of the engine, `distribution/reference`. What does not fit must not get into the path of a request to it.
_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64}|[0-9a-f]{12,64}"
)
_RUN_CONFIG = ("Entrypoint", "Cmd", "Env", "WorkingDir", "User")
# Differ from build to build with equal content; nothing runs by them. Byte code in __pycache__ is used only beside the
# source it was made of, which is hashed, and carries that source's time of change.
_IGNORED_FILES = frozenset(
    {"var/cache/ldconfig/aux-cache", ".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"}
)
_IGNORED_FOLDERS = ("var/log/", "dev/", "proc/", "sys/")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def resolve(
    client: APIClient, reference: str, memo: Path | None, engine: EngineTraits, pull: PullPolicy = "missing"
) -> Image:
    """Return the image `reference` with its content identity; pull it first if it is not here and is not one of ours.

    With pull policy `always` it is pulled even if it is here, with `never` not at all.

    `memo` is a folder that remembers content hashes by image id. Raises EnvironmentProblem naming the image.
    """
    if not _REFERENCE.fullmatch(reference):
        raise EnvironmentProblem(
            f"image {reference[:100]!r}: is no reference to an image", hint="registry/name:tag, or name@sha256:…"
        )
    details = _inspect(client, reference)
    if details is None and pull == "never":
        raise EnvironmentProblem(f"image {reference} is not here, and its pull policy is Never")
    if details is None or (pull == "always" and not reference.startswith(LOCAL_PREFIX)):
        details = _pull(client, reference)
    _check_machine(engine, reference, details)
    return Image(reference, str(details["Id"]), _identity(client, details, memo))


def find(client: APIClient, reference: str, memo: Path | None, engine: EngineTraits) -> Image | None:
    """Return the image if the engine has it, None if it would be pulled; without `memo` its digest is left empty.

    Raises EnvironmentProblem for an image of ours that is not built, or one for another processor.
    """
    details = _inspect(client, reference)
    if details is None:
        if reference.startswith(LOCAL_PREFIX):
            raise _not_built(reference)
        return None
    _check_machine(engine, reference, details)
    return Image(reference, str(details["Id"]), _identity(client, details, memo) if memo else "")


def _identity(client: APIClient, details: Mapping[str, Any], memo: Path | None) -> str:
    pinned = sorted(str(item).partition("@")[2] for item in details.get("RepoDigests") or ())
    return pinned[0] if pinned else content_digest(client, details, memo)


def _not_built(reference: str) -> EnvironmentProblem:
    return EnvironmentProblem(f"image {reference} is not built", hint="make images")


def _inspect(client: APIClient, reference: str) -> dict[str, Any] | None:
    try:
        return dict(client.inspect_image(reference))
    except docker.errors.NotFound:
        return None
    except docker.errors.APIError as error:
        raise EnvironmentProblem(f"image {reference!r}: {explain(error)}") from error


def _pull(client: APIClient, reference: str) -> dict[str, Any]:
    if reference.startswith(LOCAL_PREFIX):
        raise _not_built(reference)
    try:
        client.pull(reference, tag=None if _has_tag(reference) else "latest")
    except docker.errors.APIError as error:
        hint = "check its name and `docker login`, or pull it by hand"
        raise EnvironmentProblem(
            f"image {reference} is not here and cannot be pulled: {explain(error)}", hint=hint
        ) from error
    except CONNECTION_ERRORS as error:
        raise EnvironmentProblem(f"image {reference}: the Docker engine was lost while pulling it") from error
    details = _inspect(client, reference)
    if details is None:
        raise EnvironmentProblem(f"image {reference} was pulled but the engine does not have it")
    return details


def _has_tag(reference: str) -> bool:
    return "@" in reference or ":" in reference.rpartition("/")[2]


def _check_machine(engine: EngineTraits, reference: str, details: Mapping[str, Any]) -> None:
    """Refuse an image for another processor unless this machine emulates it."""
    wanted = str(details.get("Architecture") or "")
    have = _MACHINES.get(engine.architecture, engine.architecture)
    emulated = engine.desktop or any(
        Path("/proc/sys/fs/binfmt_misc", f"qemu-{name}").exists() for name in (wanted, *_aliases(wanted))
    )
    if wanted and wanted != have and not emulated:
        hint = f"build or pull it for {have}"
        raise EnvironmentProblem(f"image {reference} is for {wanted}, and this engine runs {have}", hint=hint)


def _aliases(architecture: str) -> list[str]:
    return [machine for machine, name in _MACHINES.items() if name == architecture]


def content_digest(client: APIClient, details: Mapping[str, Any], memo: Path | None) -> str:
    """Return `sha256:...` over the image's sorted files and its run configuration.

    Takes seconds for a large image, so it is remembered in `memo` by the image's id.
    """
    identity = str(details["Id"])
    remembered = memo / f"v{CONTENT_SCHEMA}-{identity.removeprefix('sha256:')}" if memo else None
    if remembered and remembered.is_file():
        digest = remembered.read_text(encoding="ascii").strip()
        if len(digest) == 71:
            return digest
    config = details.get("Config") or {}
    digest = _digest(_files(client, identity), {name: config.get(name) for name in _RUN_CONFIG})
    if remembered:
        _remember(remembered, digest)
    return digest


def _digest(entries: Iterator[tuple[Any, ...]], config: Mapping[str, Any]) -> str:
    document = {"schema": CONTENT_SCHEMA, "config": config, "files": sorted(entries)}
    return (
        "sha256:" + hashlib.sha256(json.dumps(document, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
    )


def _remember(path: Path, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Temporary(path.parents[1] / "tmp").folder() as folder:
        (folder / "digest").write_text(digest, encoding="ascii")
        (folder / "digest").replace(path)


@contextmanager
def files_of(client: APIClient, image: str) -> Iterator[tarfile.TarFile]:
    """Yield all files of an image as one stream, to be read once from its begin to its end."""
    # Never started: it exists to be exported, and any command will do.
    container = client.create_container(image, command=["-"], labels=owner_labels("export"))["Id"]
    try:
        stream = _ChunkReader(client.export(container, chunk_size=1024 * 1024))
        with tarfile.open(fileobj=io.BufferedReader(stream, 1024 * 1024), mode="r|") as archive:
            yield archive
    finally:
        client.remove_container(container, force=True, v=True)


def _files(client: APIClient, image: str) -> Iterator[tuple[Any, ...]]:
    """Yield (path, kind, mode, size, sha256 or link target) of all files of an image."""
    with files_of(client, image) as archive:
        yield from _manifest(archive)


def _manifest(archive: tarfile.TarFile) -> Iterator[tuple[Any, ...]]:
    hashes: dict[str, tuple[int, str]] = {}
    for member in archive:
        path = member.name.removeprefix("./")
        if member.isreg():
            content = archive.extractfile(member)
            if content is None:
                raise OSError(f"unreadable member {member.name!r} in an image")
            hashes[path] = (member.size, hashlib.file_digest(content, "sha256").hexdigest())  # type: ignore[arg-type]
        if path in _IGNORED_FILES or path.startswith(_IGNORED_FOLDERS) or "/__pycache__" in path:
            continue
        if member.isreg() or member.islnk():
            # Which of several hard links comes first is chance: each counts as the file it is.
            yield (path, "file", member.mode, *hashes.get(path, hashes.get(member.linkname, (0, member.linkname))))
        elif member.issym():
            yield (path, "link", 0, 0, member.linkname)
        else:
            yield (path, "folder" if member.isdir() else "special", member.mode, 0, "")


class _ChunkReader(io.RawIOBase):
    """A read-only file over an iterator of byte chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

"""What a step needs of the KFP contract, with the standard library alone: no KFP SDK is inside a step's image.

Reads artifact lists out of an ExecutorInput and maps their URIs to paths by KFP's rules, so that one image runs on
Kubeflow, on Docker and on AzureML; writes ExecutorOutput (metrics, metadata). Contract: KFP `pipeline_spec.proto`,
messages ExecutorInput and ExecutorOutput, and `LocalPathForURI` of the KFP launcher.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

_LOCAL_ROOTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}


class StepError(Exception):
    """An error for the person who runs the step: one line, and a hint."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Artifact:
    """One artifact of a list: its name, local path, URI and metadata."""

    name: str
    path: Path
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def local_path(uri: str) -> Path:
    """Return where KFP's launcher puts the artifact at `uri`: gs, minio and s3 are mounts, anything else is a path."""
    for scheme, root in _LOCAL_ROOTS.items():
        if uri.startswith(scheme):
            return Path(root + uri[len(scheme) :])
    if uri.startswith("oci://"):
        return Path("/oci/" + uri[len("oci://") :].replace("/", "_") + "/models")
    if uri.startswith("file://"):
        return Path(uri[len("file://") :])
    return Path(uri)


def artifact_list(executor_input: str, name: str) -> list[Artifact]:
    """Return the artifacts of input `name`, in order; an absent input is an empty list.

    `executor_input` is the JSON that replaces the placeholder `{{$}}`. Raises StepError if it is not such JSON.
    """
    try:
        document = json.loads(executor_input)
        artifacts = document.get("inputs", {}).get("artifacts", {}).get(name, {}).get("artifacts", [])
        return [
            Artifact(
                name=item.get("name", name),
                path=Path(item["custom_path"]) if item.get("custom_path") else local_path(item["uri"]),
                uri=item["uri"],
                metadata=item.get("metadata", {}),
            )
            for item in artifacts
        ]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise StepError(f"--executor-input is not an ExecutorInput in JSON: {error!r}") from error


def json_argument(text: str, flag: str) -> Any:
    """Parse a JSON parameter given as `flag`. Raises StepError naming the flag."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise StepError(f"{flag} is not JSON: {error}", hint=f"got {text[:80]!r}") from error


def open_plain(path: Path) -> BinaryIO:
    """Open a file that others made for reading: a regular file and no link, so that nothing else is read in its place.

    Raises StepError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StepError(f"{path}: is a link, not a file") from error
        raise StepError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StepError(f"{path}: is no regular file")
    return os.fdopen(descriptor, "rb")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys, in one step (temporary file, then rename)."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".part")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(target)


def write_executor_output(path: str | Path, metadata: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ExecutorOutput with `metadata` for each named output artifact (for Metrics: the scalar values)."""
    write_json(
        path,
        {
            "artifacts": {
                name: {"artifacts": [{"name": name, "metadata": dict(values)}]} for name, values in metadata.items()
            }
        },
    )


def run_step(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a step's `main(argv)`: a StepError or a full disk is one line on stderr and exit 2; INTERMODAL_DEBUG=1 adds the
    traceback."""
    try:
        main(sys.argv[1:])
    except (StepError, OSError) as raised:
        error = raised if isinstance(raised, StepError) else _no_room(raised)
        if os.environ.get("INTERMODAL_DEBUG") == "1":
            traceback.print_exc()
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0)


def _no_room(error: OSError) -> StepError:
    """Return the error for people if a disk is full. Raises `error` again if it is another."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return StepError(f"no space left on the disk{f' of {error.filename}' if error.filename else ''}")


def mounted(path: str) -> Path:
    """Return where the volume mounted at `path` really is.

    Inside a container that is `path` itself. The process backend cannot mount anything; it names the real folders in
    INTERMODAL_MOUNTS, a JSON object from mount path to folder.
    """
    mounts = json.loads(os.environ.get("INTERMODAL_MOUNTS", "{}"))
    for target, source in mounts.items():
        if path == target or path.startswith(target.rstrip("/") + "/"):
            return Path(source + path[len(target.rstrip("/")) :])
    return Path(path)

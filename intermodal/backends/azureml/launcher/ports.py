"""The folders that AzureML gives a node: where artifacts come from, and where this node's go.

An output port is never left empty (AzureML fails whoever reads an empty one): each gets a file `kfp.marker`. The content of
output `model` is `model` in its port, a file or a folder; of a list, `model/0`, `model/1`, ... Blob storage keeps no empty
folders, and an artifact may have some, or be one: the marker names them (JSON, paths in the port), for who reads the artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from intermodal.engine.artifacts import Artifact
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.placeholders import View

MARKER = "kfp.marker"


def content_name(leaf: str, output: str, relative: str) -> str:
    """Return what stands for content in a meta, in the place where a local run has its digest."""
    return f"port|{leaf}|{output}|{relative}"


def outside_name(leaf: str, output: str) -> str:
    """Return what stands for data from outside: of an importer, or (`leaf` empty) an argument of the pipeline."""
    return f"outside|{leaf}|{output}"


def empty_folders(port: Path) -> list[str]:
    """Return the folders of a port's content that are empty, by their paths in the port."""
    try:
        return list(json.loads((port / MARKER).read_text(encoding="utf-8") or "[]"))
    except FileNotFoundError:
        return []


class Inputs:
    """Input artifacts of this node as paths."""

    def __init__(self, ports: Mapping[tuple[str, str], str]) -> None:
        """`ports` maps (leaf, output) to what is mounted for it."""
        self._ports = ports
        self._whole: dict[str, str] = {}
        """Content that has empty folders -> a copy that has them."""

    def view(self, artifact: Artifact) -> View:
        """Return the artifact as the step sees it: its URI is the local path."""
        path = self._path(artifact)
        kind = artifact.type
        return View(artifact.name, path, path, kind.schema_title, kind.schema_version, artifact.metadata)

    def _path(self, artifact: Artifact) -> str:
        kind, _, rest = artifact.digest.partition("|")
        if kind == "port":
            leaf, output, relative = rest.split("|", 2)
            return self._with_folders(Path(self._ports[leaf, output]), relative)
        if kind == "outside":
            leaf, output = rest.split("|", 1)
            return self._ports[leaf, output]
        return artifact.uri  # somewhere else altogether, or metadata alone

    def _with_folders(self, port: Path, relative: str) -> str:
        """Return the path of content of a port; if it has empty folders, of a copy: what is mounted cannot be written."""
        path = str(port / relative)
        empty = [name for name in empty_folders(port) if name == relative or name.startswith(f"{relative}/")]
        if empty and path not in self._whole:
            copy = Path(tempfile.mkdtemp(prefix="kfp-"))
            if (port / relative).is_dir():
                shutil.copytree(port / relative, copy / relative)
            for name in empty:
                (copy / name).mkdir(parents=True, exist_ok=True)
            self._whole[path] = str(copy / relative)
        return self._whole.get(path, path)


class Outputs:
    """Output ports of this node."""

    def __init__(self, leaf: str, ports: Mapping[str, str], lists: frozenset[str]) -> None:
        """`ports` maps the name of an output artifact to its folder; `lists` are outputs that are lists."""
        self._leaf = leaf
        self._ports = ports
        self._lists = lists
        self._count: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        """What stands for content in the meta -> `tree_digest` of the content."""

    def mark(self) -> None:
        """Put the marker into each port. Last, when all content is there."""
        for folder in self._ports.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
            empty = sorted(os.path.relpath(base, folder) for base, inner, files in os.walk(folder) if not inner + files)
            Path(folder, MARKER).write_text(json.dumps([name for name in empty if name != "."]), encoding="utf-8")

    def publish(self, name: str, path: Path) -> str:
        """Move what the step wrote into its port; return what stands for it in the meta. Raises AttemptFailed."""
        _refuse_special(name, path)
        relative = name
        if name in self._lists:
            relative = f"{name}/{self._count.get(name, 0)}"
            self._count[name] = self._count.get(name, 0) + 1
        target = Path(self._ports[name], relative)
        target.parent.mkdir(parents=True, exist_ok=True)
        place = content_name(self._leaf, name, relative)
        self.digests[place] = tree_digest(path)
        shutil.move(str(path), str(target))
        return place


def tree_digest(path: Path) -> str:
    """Return the sha256 (hex) of a file or folder: names and content, as storage keeps them (no modes, no empty folders)."""
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    digest = hashlib.sha256()
    for file in files:
        name = "" if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{_file_digest(file)}\0".encode())
    return digest.hexdigest()


def _file_digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _refuse_special(name: str, path: Path) -> None:
    """An artifact is made of regular files and folders, here as in a local run."""
    entries = [path] + [Path(base, item) for base, folders, files in os.walk(path) for item in folders + files]
    for entry in entries:
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            shown = entry.relative_to(path).as_posix() if entry != path else entry.name
            message = f"output artifact {name!r} holds a link or a special file ({shown})"
            raise AttemptFailed(Failure(FailureClass.OUTPUT_INVALID, message))

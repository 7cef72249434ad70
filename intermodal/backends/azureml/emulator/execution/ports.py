"""The folders of one run: where its code, inputs and outputs lie on this machine, and where its process sees them.

In a container the paths are those of AzureML's runtime (`/mnt/azureml/cr/j/<run>/exe/wd`, `.../cap/data-capability/wd`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from intermodal.backends.azureml.emulator.execution.bodies import OutputPort
from intermodal.engine.backend import Backend, Mount
from intermodal.errors import BadInput

_WORK, _OUT = "wd", "out"


@dataclass(frozen=True)
class Seen:
    """A path of this machine, and the same as the process sees it."""

    here: Path
    there: str


class Ports:
    """Makes the folders of a run below `attempt` and collects what is to be mounted."""

    def __init__(self, attempt: Path, run: str, backend: Backend) -> None:
        self._isolated = backend.capabilities.isolates_filesystem
        self._root = attempt / "outputs"  # all that a step may write is in this folder, by the backend's contract
        self._seen_root = backend.step_root(attempt) / "outputs"
        base = PurePosixPath("/mnt/azureml/cr/j", hashlib.sha256(run.encode()).hexdigest()[:32])
        self._work_target, self._data_target = base / "exe/wd", base / "cap/data-capability/wd"
        self._mounts: dict[PurePosixPath, Mount] = {}
        (self._root / _WORK).mkdir(parents=True)
        (self._root / _OUT).mkdir()

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return tuple(self._mounts.values())

    def work(self, code: Path | None) -> Seen:
        """Make the working directory, with a copy of the code in it and an empty `outputs`."""
        here = self._root / _WORK
        if code is not None and code.is_dir():
            shutil.copytree(code, here, symlinks=True, dirs_exist_ok=True)
        elif code is not None:
            shutil.copy2(code, here)
        for name in ("outputs", "logs"):
            (here / name).mkdir(exist_ok=True)
        return Seen(here, self._writable(here, self._work_target))

    def input(self, name: str, source: Path) -> str:
        """Show a downloaded file or folder to the process, not to be written; return its path there."""
        if not self._isolated:
            return str(source)
        target = self._data_target / f"INPUT_{name}"
        target = target / source.name if source.is_file() else target
        self._mounts[target] = Mount(source, target)
        return str(target)

    def output(self, name: str, port: OutputPort, uri: str) -> Seen:
        """Make the folder of an output; where the output is a file, the path is that of the file to be."""
        here = self._root / _OUT / name
        here.mkdir()
        there = self._writable(here, self._data_target / name)
        if port.kind != "uri_file":
            return Seen(here, there)
        file = PurePosixPath(uri.rstrip("/")).name
        return Seen(here / file, f"{there}/{file}")

    def authority(self, bundle: Path, target: str) -> str:
        """Show the certificates that the process should trust; return their path there."""
        if not self._isolated:
            return str(bundle)
        self._mounts[PurePosixPath(target)] = Mount(bundle, PurePosixPath(target))
        return target

    def _writable(self, here: Path, target: PurePosixPath) -> str:
        if not self._isolated:
            return str(self._seen_root / here.relative_to(self._root))
        self._mounts[target] = Mount(here, target, read_only=False)
        return str(target)


def refuse_links(name: str, path: Path) -> None:
    """Raise BadInput if an output holds a link or a special file: an upload could follow it out of the run's folder."""
    entries = [path] if path.is_symlink() or not path.is_dir() else []
    for base, folders, files in os.walk(path):
        entries += [Path(base, item) for item in folders + files]
    for entry in entries:
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise BadInput(f"output {name!r} holds a link or a special file ({entry.relative_to(path.parent)})")


def has_content(path: Path) -> bool:
    """Whether there is a file at or below `path`: storage knows no empty folders."""
    return path.is_file() or any(files for _, _, files in os.walk(path))

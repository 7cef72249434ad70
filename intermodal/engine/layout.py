"""The state folder and the folders of runs and attempts in it.

`<state>/` (default `.intermodal`): `intermodal.db`, `store/`, `volumes/<claim>/`, and `runs/<run>/` with `tasks/<task>/<attempt>/`
(`outputs/` that the step writes, `log.txt`) and `outputs/`, where each output of the pipeline is a link into the store.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from intermodal.engine.naming import safe_name
from intermodal.engine.replace import mend
from intermodal.engine.temporary import Temporary
from intermodal.errors import BadInput

_README = """This folder holds what `intermodal run` remembers: runs, logs, artifacts, the cache.

runs/<run>/outputs/   the outputs of a run (links into store/)
runs/<run>/tasks/     each attempt's log
store/                artifacts, named by their content; never edit them
tracking/             the MLflow server of this folder, if there is one
volumes/              what steps keep between attempts and runs
intermodal.db         the record of runs, an SQLite database

Nothing else depends on it: it may be deleted when no run is going on.
"""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class StateFolder:
    """The state folder at `root`, a path without links: a link below it is none of ours."""

    root: Path

    @staticmethod
    def at(path: Path) -> StateFolder:
        """Make the folder and what explains it, if absent."""
        root = path.resolve()
        root.mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("README.txt", _README),
            (".gitignore", "*\n"),
            ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ):
            target = root / name
            if not target.exists():
                target.write_text(content, encoding="utf-8")
        return StateFolder(root)

    def share(self, folder: Path) -> None:
        """Keep in `folder` what is made once and named by its content, so that other state folders need not make it again."""
        for name in ("envs", "images", "python", "wheels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # there already, perhaps since a moment ago
                (self.root / name).symlink_to(folder.resolve() / name)

    @property
    def database(self) -> Path:
        return self.root / "intermodal.db"

    @property
    def temporary(self) -> Temporary:
        return Temporary(self.root / "tmp")

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def store(self) -> Path:
        return self.root / "store"

    def run(self, run: str) -> Path:
        return self.runs / run

    def attempt(self, run: str, task: str, number: int) -> Path:
        return self.run(run).joinpath("tasks", *map(safe_name, task.split("/")), f"attempt-{number}")

    def workspace(self, run: str) -> Path:
        """Return the folder that all tasks of a run share, if its pipeline wants one."""
        return self.run(run) / "workspace"

    def open_workspace(self, run: str) -> Path:
        """Return it, made if absent and writable for whoever the steps run as."""
        folder = self.workspace(run)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
        return folder

    def volume(self, claim: str, sub_path: str) -> Path:
        """Return the folder of a volume, made if absent and writable for whoever the step runs as. Raises BadInput."""
        parts = [safe_name(part) for part in (claim, *filter(None, sub_path.split("/")))]
        folder = self.root / "volumes"
        folder.mkdir(exist_ok=True)
        mend(folder)
        descriptor = os.open(folder, _FOLDER)
        try:
            for part in parts:
                folder, outer = folder / part, descriptor
                descriptor = _open_shared(part, outer, f"volume {claim}: {folder}")
                os.close(outer)
        finally:
            os.close(descriptor)
        return folder


def _open_shared(name: str, parent: int, place: str) -> int:
    """Open a folder in which steps write, made if absent. A link that a step put in its place leads out and is refused."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise BadInput(f"{place} is no folder: a step put something else in its place") from error
    if os.fstat(descriptor).st_uid == os.getuid():
        os.fchmod(descriptor, 0o1777)
    return descriptor

"""Ways to run a step: a real process, or a function in its place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.oracle.leaf import Executor, Place, Step, Thing

Program = Callable[[list[str]], int]
"""A deterministic stand-in for a process: takes an argument vector, writes files, returns an exit code."""


class LocalExecutor(Executor):
    """Runs steps on this machine, each in a folder of its own below `folder`, with its inputs copied into it."""

    def __init__(self, folder: Path, program: Program | None = None) -> None:
        """`program`, if given, is called instead of starting a process."""
        self._folder = folder
        self._program = program
        self.steps: list[Step] = []

    def place(self, path: str, attempt: int) -> Place:
        folder = self._folder / path / f"attempt-{attempt}"
        for name in ("outputs/artifacts", "outputs/parameters", "inputs"):
            (folder / name).mkdir(parents=True)
        return Place(str(folder), folder)

    def run(self, step: Step, place: Place, inputs: dict[str, list[Thing]], lists: set[str]) -> int:
        self.steps.append(step)
        if step.image == "missing":  # as for the tests' backend
            return 125
        for name, things in inputs.items():
            for index, thing in enumerate(things):
                if thing.path is not None:
                    target = Path(place.input(name, index, thing, is_list=name in lists)[1])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    (shutil.copytree if thing.path.is_dir() else shutil.copy)(thing.path, target)
        words = [*step.command, *step.args]
        if self._program is not None:
            return self._program(words)
        log = place.folder / "log.txt"
        with log.open("wb") as stream:
            done = subprocess.run(words, env=environment(step), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        return done.returncode


def environment(step: Step) -> dict[str, str]:
    """Return the step's variables: `$(NAME)` means a variable before, `$$` a dollar sign."""
    known = {"PATH": os.environ["PATH"]}
    for name, value in step.env:

        def meant(found: re.Match[str]) -> str:
            return "$" if found[0] == "$$" else known.get(found[1], found[0])

        known[name] = re.sub(r"\$\$|\$\(([\w.-]+)\)", meant, value)
    return known

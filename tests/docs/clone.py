"""A fresh clone of this tree, in which pages are followed word for word: files are written, commands typed, output compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.blocks import ROOT, blocks, commands
from tests.docs.proofs import NOT_HERE


@dataclass
class Clone:
    """A clone's folder, and the pages that were followed in it: each once, with what came of it."""

    folder: Path
    _followed: dict[str, AssertionError | None] = field(default_factory=dict)

    @classmethod
    def of_this_tree(cls, folder: Path) -> Clone:
        """Copy what git knows here, or would; the environment is the one that is here."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        return cls(folder)

    def follow(self, page: str) -> None:
        """Do what a page says, unless that was done before. Raises AssertionError at the first thing that is not as it says."""
        if page not in self._followed:
            try:
                self._follow(page)
                self._followed[page] = None
            except AssertionError as error:
                self._followed[page] = error
        if error := self._followed[page]:
            raise error

    def _follow(self, page: str) -> None:
        printed = ""
        for block in blocks(ROOT / page):
            if block.title:
                path = self.folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text + "\n")
            elif block.language == "sh":
                printed = "" if all(line in NOT_HERE for line in commands(block)) else self.type(block.text)
            elif block.language == "text":
                lost = first_missing(block.text, printed)
                assert lost is None, f"{block.page}:{block.line}: {lost!r} was not printed\n{printed}"

    def type(self, command: str) -> str:
        """Type a block of commands and return all that they print; each must succeed."""
        given = {name: value for name, value in os.environ.items() if not name.startswith("INTERMODAL_")}
        path = f"{self.folder / '.venv/bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env={**given, "PATH": path, "PYTHONPATH": str(self.folder), "COLUMNS": "140", "INTERMODAL_TRACKING": "off"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{command}\nended with {done.returncode}\n{done.stdout}"
        return done.stdout


def first_missing(expected: str, printed: str) -> str | None:
    """Return the first line of a page's output that was not printed, in order; `…` stands for anything."""
    rest = iter(printed.splitlines())
    for line in expected.splitlines():
        words = re.sub(r"(\\\s)+", r"\\s+", re.escape(line.strip())).replace("…", ".*")
        if line.strip() != "…" and not any(re.fullmatch(rf"\s*{words}\s*", there) for there in rest):
            return line
    return None

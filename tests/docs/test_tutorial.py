"""The tutorial, as a reader follows it in a fresh clone: its files are written, its commands typed, its output compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.support.memo import known_images

pytestmark = pytest.mark.engine

PAGES = ("index", "own-data", "own-step", "own-pipeline")
DONE_BEFORE = {"make images"}
"""Not typed again: `make test` begins with it."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what git knows, or would, with the environment that is here."""
    folder = tmp_path_factory.mktemp("tutorial") / "intermodal"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    with known_images(folder / ".intermodal"):
        yield folder
    subprocess.run(["docker", "image", "rm", "--force", "intermodal/redact:dev"], capture_output=True)


def typed(command: str, folder: Path) -> str:
    """Type a block of commands and return all that they print; each must succeed."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("INTERMODAL_")}
    path = f"{folder / '.venv/bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**given, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "140"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\nended with {done.returncode}\n{done.stdout}"
    return done.stdout


def missing(expected: str, printed: str) -> list[str]:
    """Return the lines of a page's output that were not printed, in order; `…` stands for anything."""
    rest = iter(printed.splitlines())
    left = []
    for line in expected.splitlines():
        if line.strip() == "…":
            continue
        pattern = re.compile(r"\s*" + re.sub(r"(\\\s)+", r"\\s+", re.escape(line.strip())).replace("…", ".*") + r"\s*")
        if not any(pattern.fullmatch(there) for there in rest):
            left.append(line)
            break
    return left


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_tutorial(clone: Path, page: str):
    printed = ""
    for block in blocks(ROOT / f"docs/tutorial/{page}.md"):
        if block.title:
            path = clone / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n")
        elif block.language == "sh":
            printed = typed(block.text, clone) if block.text not in DONE_BEFORE else ""
        else:
            assert block.language == "text", f"{block.page}:{block.line}: neither a file, nor commands, nor output"
            assert missing(block.text, printed) == [], f"{block.page}:{block.line}\n{printed}"

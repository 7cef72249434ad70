"""`python -m docs.build` (`make docs`): build the site into dist/site, strictly. What it shows, it loads from itself."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from docs.build.pages import BrokenLink, find_pages, relink
from docs.build.reference import reference_pages
from intermodal.build.venv import install_lock
from intermodal.errors import EnvironmentProblem

PROJECT = Path(__file__).parents[2]
PAGES = PROJECT / "dist/docs"
"""Where the pages are laid out for MkDocs; mkdocs.yml says the same."""


def lay_out(project: Path, target: Path) -> None:
    """Write every page, those written by hand and those generated, below `target`. Raises BrokenLink."""
    pages = find_pages(project)
    places = {page.source: page.place for page in pages}
    shutil.rmtree(target, ignore_errors=True)
    written = {page.place: relink(page, page.source.read_text(encoding="utf-8"), project, places) for page in pages}
    for place, text in (written | reference_pages()).items():
        path = target / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def environment(project: Path) -> str:
    """Return the Python that has MkDocs; its environment is made anew when its lock changes. Raises EnvironmentProblem."""
    lock = project / "requirements/docs.txt"
    folder = project / ".intermodal/tools/docs"
    mark = folder / "made-of"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not mark.is_file() or mark.read_text() != wanted:
        install_lock(project, folder, lock)
        mark.write_text(wanted)
    return str(folder / "bin/python")


def main() -> int:
    """Build the site and return the exit code: 0 only if MkDocs had nothing to say against it."""
    try:
        python = environment(PROJECT)
        lay_out(PROJECT, PAGES)
    except (BrokenLink, EnvironmentProblem) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, EnvironmentProblem) else 1
    # Not --quiet: a warning that is not logged is not counted, and the build is strict no more.
    command = [python, "-m", "mkdocs", "build", "--strict", "--config-file", str(PROJECT / "mkdocs.yml")]
    built = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if built.returncode:
        print(built.stdout, file=sys.stderr)
        return 1
    print(PROJECT / "dist/site/index.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

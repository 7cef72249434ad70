"""Lays the pages out for MkDocs: which file becomes which page, and links that hold there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_WRITTEN = ("docs/*.md", "docs/*/*.md")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^\s*(```|~~~)")
_OUTSIDE = re.compile(r"^(https?:|mailto:|#)")


class BrokenLink(ValueError):
    """A link to what is not there: names the page and the link."""


@dataclass(frozen=True)
class Page:
    """A Markdown file of the repository and its place in the site."""

    source: Path
    place: str
    """Path below the site's folder of pages, with slashes."""


def find_pages(project: Path) -> list[Page]:
    """Return every page that is written by hand."""
    found = [
        Page(project / "README.md", "index.md"),
        Page(project / "CONTRIBUTING.md", "contributing.md"),
        Page(project / "CHANGELOG.md", "changes.md"),
    ]
    docs = sorted({path for pattern in _WRITTEN for path in project.glob(pattern)})
    found += [Page(path, path.relative_to(project / "docs").as_posix()) for path in docs]
    steps = sorted(project.glob("components/*/README.md"))
    return [*found, *(Page(path, f"steps/{path.parent.name}.md") for path in steps)]


def relink(page: Page, text: str, project: Path, pages: dict[Path, str]) -> str:
    """Return the page's text with links that hold in the site.

    A link to another page leads there; one to any other file or folder of the repository becomes its text, for the site does not
    hold it. Raises BrokenLink for one to nothing.
    """
    lines = []
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        code = fenced or line.startswith("    ")
        lines.append(line if code else _LINK.sub(lambda match: _replace(match, page, project, pages), line))
    return "\n".join(lines) + "\n"


def _replace(match: re.Match[str], page: Page, project: Path, pages: dict[Path, str]) -> str:
    target = match["target"]
    if _OUTSIDE.match(target):
        return match[0]
    path, mark, anchor = target.partition("#")
    meant = Path(os.path.normpath(page.source.parent / path))
    place = pages.get(meant) or pages.get(meant / "index.md")
    if place is not None:
        return f"{match['image']}[{match['text']}]({_relative(page.place, place)}{mark}{anchor})"
    if not meant.exists() or not meant.is_relative_to(project):
        raise BrokenLink(f"{page.source.relative_to(project)}: {target} is not there")
    return match["text"]


def _relative(page: str, target: str) -> str:
    return Path(os.path.relpath(target, Path(page).parent)).as_posix()

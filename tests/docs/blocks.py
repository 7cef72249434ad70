"""What the pages hold between their words: files to write, commands to type, output to expect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?$")


@dataclass(frozen=True)
class Block:
    """A block of code of a page: fenced, or indented by four spaces (then it has no language)."""

    page: str
    line: int
    language: str
    title: str
    text: str


def blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a Markdown file in order."""
    page = path.relative_to(ROOT).as_posix()
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        start = number
        if match := _FENCE.match(lines[number]):
            end = lines.index("```", number + 1)
            text = "\n".join(lines[number + 1 : end])
            yield Block(page, start + 1, match["language"], match["title"] or "", text)
            number = end + 1
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            yield Block(page, start + 1, "", "", "\n".join(line[4:] for line in lines[start:number]).strip())
        else:
            number += 1


SHELL = ("sh", "bash", "console")
_COMMENT = re.compile(r"(^|\s+)# .*$")


def is_commands(block: Block) -> bool:
    """Whether a block is for a shell: it says so, or says nothing of a language."""
    return block.language in SHELL or not (block.language or block.title)


def commands(block: Block) -> list[str]:
    """Return the commands of a block, one for each line that is typed, without comments."""
    joined = re.sub(r"\s*\\\n\s*", " ", block.text)
    lines = (_COMMENT.sub("", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def pages() -> list[Path]:
    """Return all pages that tell a reader what to type."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted(ROOT.glob("components/*/README.md")),
    ]

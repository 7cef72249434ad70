"""How the command says things on a terminal: states, lengths of time, amounts of memory, and whatever steps wrote."""

from __future__ import annotations

import re

from intermodal.engine.states import State

SIGNS = {
    State.RUNNING: "▶",
    State.SUCCEEDED: "✓",
    State.CACHED: "↺",
    State.FAILED: "✗",
    State.SKIPPED: "–",
    State.CANCELLED: "■",
}
COLOURS = {
    State.RUNNING: "cyan",
    State.SUCCEEDED: "green",
    State.CACHED: "green",
    State.FAILED: "red",
    State.CANCELLED: "yellow",
}
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""A terminal's control sequences: CSI (colours, cursor), OSC (titles, links), and the short ones."""


def printable(line: bytes, limit: int | None = 200) -> str:
    """Return a log line for a terminal: invalid UTF-8 as escapes, neither colours nor control characters, `limit` characters."""
    text = _ESCAPE.sub("", line.decode("utf-8", "backslashreplace").rstrip("\r\n")).expandtabs(4)
    return "".join(character if character.isprintable() else " " for character in text[:limit])


def duration(seconds: float) -> str:
    """Return 3.2s, 2m05s or 1h02m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def memory(size: int) -> str:
    """Return an amount of memory in at most five characters: 512M, 1.5G."""
    mebibytes = size / 2**20
    return f"{mebibytes:.0f}M" if mebibytes < 999.5 else f"{mebibytes / 1024:.1f}G"

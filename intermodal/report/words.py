"""How a report says things: states, lengths of time, numbers, sizes."""

from __future__ import annotations

import json
import math
from typing import Any

from intermodal.engine.states import State

SIGNS = {
    State.FAILED: "✗",
    State.CANCELLED: "■",
    State.RUNNING: "▶",
    State.PENDING: "…",
    State.SUCCEEDED: "✓",
    State.CACHED: "↺",
    State.SKIPPED: "–",
}
WORST_FIRST = tuple(SIGNS)


def duration(seconds: float) -> str:
    """Return 45ms, 3.2s, 2m05s or 1h02m."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def size(count: int) -> str:
    """Return a number of bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.3g} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def number(value: Any) -> str:
    """Return a metric's value: at most five significant digits, as it is if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json_text(value)
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        value = int(value)
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def clip(text: str, limit: int) -> str:
    """Return at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def json_text(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent)

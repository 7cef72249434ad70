"""HTML by construction: whatever is not `Markup` is text, and is escaped. There is no other way to put a value into a page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

_VOID = frozenset({"br", "hr", "input", "meta"})
_NOT_TEXT = dict.fromkeys(
    [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0xD800, 0xE000)], "\N{REPLACEMENT CHARACTER}"
)
"""Characters that an HTML document cannot hold."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Any
"""Markup, text, a number, None (nothing), or an iterable of such."""


def clean(text: str) -> str:
    """Return text without characters that a page cannot hold."""
    return text.translate(_NOT_TEXT)


def escape(text: object) -> Markup:
    """Return text as HTML."""
    return Markup(html.escape(clean(str(text)), quote=True))


def tag(element: str, /, *children: Child, **attributes: object) -> Markup:
    """Return an element. `class_="x"` gives class, `data_a="x"` data-a; an attribute that is None or False is left out."""
    parts = [f"<{element}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(f" {attribute}" if value is True else f' {attribute}="{escape(value)}"')
    parts.append(">")
    _append(parts, children)
    if element not in _VOID:
        parts.append(f"</{element}>")
    return Markup("".join(parts))


def join(*children: Child) -> Markup:
    """Return children one after the other."""
    parts: list[str] = []
    _append(parts, children)
    return Markup("".join(parts))


def _append(parts: list[str], children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str | int | float):
            parts.append(escape(child))
        else:
            _append(parts, child)

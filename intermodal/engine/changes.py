"""What differs between two tasks, named for a person: a reading of the parts of their fingerprints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intermodal.conditions import plain_name
from intermodal.engine.fingerprint import Parts
from intermodal.engine.values import shorten, text

ABSENT = object()
"""Stands for the side on which something does not exist."""


@dataclass(frozen=True)
class Change:
    """One thing that differs. `before` and `after` are JSON values, ABSENT where there is none; `text` is the line for a person."""

    part: str
    name: str
    before: Any
    after: Any
    text: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; a side that does not exist has no key."""
        sides = {key: value for key, value in (("before", self.before), ("after", self.after)) if value is not ABSENT}
        return {"part": self.part, "name": self.name, "text": self.text, **sides}


def name_changes(before: Parts, after: Parts, makers: Mapping[str, str] | None = None) -> list[Change]:
    """Return what differs between two lists of fingerprint parts, in their order; empty if nothing does.

    `makers` says which task made a content of `after`, by its digest. A command or an argument that differs only because it holds a
    parameter or an input that differs is not told twice.
    """
    old, new = dict(before), dict(after)
    if "custom" in old or "custom" in new:
        return _own_keys(old, new)
    if old.get("schema") != new.get("schema"):
        given = (old.get("schema"), new.get("schema"))
        return [Change("schema", "", *given, f"the rules of identity changed: {given[0]} -> {given[1]}")]
    changes: list[Change] = []
    for part in (*new, *(name for name in old if name not in new)):
        pair = (old.get(part, ABSENT), new.get(part, ABSENT))
        if pair[0] != pair[1]:
            changes.extend(_part(part, *pair, makers or {}))
    causes = [change for change in changes if change.part in ("parameters", "artifacts")]
    return [change for change in changes if not _follows(change, causes)]


def _own_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Compare identities of which one at least is a cache key of the author's own; nothing else counts in such a one."""
    before, after = old.get("key", ABSENT), new.get("key", ABSENT)
    if before == after and old["component"] == new["component"]:
        return []
    if before == after:
        return [
            Change("component", "", old["component"], new["component"], "another component with the same cache key")
        ]
    shown = ["none" if key is ABSENT else shorten(key) for key in (before, after)]
    return [Change("key", "", before, after, f"the author's own cache key: {shown[0]} -> {shown[1]}")]


def value_changes(before: Mapping[str, Any], after: Mapping[str, Any], part: str, word: str = "") -> list[Change]:
    """Return what differs between two mappings, at any depth: `hpo.trials: 5 -> 20`. `word` stands before each name."""
    lead = f"{word} " if word else ""
    found = []
    for name, old, new in _leaves(before, after, ()):
        shown = plain_name(name)
        if old is ABSENT:
            line = f"{lead}{shown} added: {shorten(new)}"
        elif new is ABSENT:
            line = f"{lead}{shown} removed (was {shorten(old)})"
        else:
            line = f"{lead}{shown}: {_pair(old, new)}"
        found.append(Change(part, name, old, new, line))
    return found


def _leaves(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in (*before, *(key for key in after if key not in before)):
            yield from _leaves(before.get(key, ABSENT), after.get(key, ABSENT), (*path, key))
    elif before != after or type(before) is not type(after):
        yield ".".join(path), before, after


def _part(part: str, before: Any, after: Any, makers: Mapping[str, str]) -> list[Change]:
    if part == "image":
        return [Change(part, "", before, after, f"image changed: {short(before)} -> {short(after)}")]
    if part == "parameters":
        return value_changes(before, after, part, "parameter")
    if part == "artifacts":
        return list(_artifacts(before, after, makers))
    if part == "interface":
        return value_changes(before, after, part, "declared")
    if part in ("command", "args"):
        return list(_words(part, before, after))
    if part == "env":
        return value_changes(_variables(before), _variables(after), part, "environment")
    if part == "packages":
        return value_changes({row[0]: row[1:] for row in before}, {row[0]: row[1:] for row in after}, part, "package")
    if part == "fields":
        return value_changes(
            {row[0]: row[1:] for row in before}, {row[0]: row[1:] for row in after}, part, "field path of"
        )
    if part in ("volumes", "scratch", "secrets"):
        return list(_rows(part, before, after))
    return [Change(part, "", before, after, f"{part} changed: {_pair(before, after)}")]


def _variables(rows: Sequence[Sequence[str]]) -> dict[str, str]:
    return {row[0]: " ".join(row[1:]) for row in rows}


def _artifacts(before: Mapping[str, Any], after: Mapping[str, Any], makers: Mapping[str, str]) -> Iterator[Change]:
    for name in (*after, *(name for name in before if name not in after)):
        old, new = before.get(name, ABSENT), after.get(name, ABSENT)
        if old == new:
            continue
        place = f"input {plain_name(name)}"
        if old is ABSENT or new is ABSENT:
            yield Change("artifacts", name, old, new, f"{place} {'added' if old is ABSENT else 'removed'}")
        elif len(old) != len(new):
            yield Change("artifacts", name, old, new, f"{place}: {len(old)} artifacts -> {len(new)}")
        else:
            for number, (one, other) in enumerate(zip(old, new, strict=True)):
                where = place if len(old) == 1 else f"{place}[{number}]"
                yield from _artifact(name, where, one, other, makers)


def _artifact(name: str, place: str, before: Any, after: Any, makers: Mapping[str, str]) -> Iterator[Change]:
    if before[0] != after[0]:
        maker = f", made by task {makers[after[0]]}" if after[0] in makers else ""
        line = f"{place}: content changed{maker} ({short(before[0])} -> {short(after[0])})"
        yield Change("artifacts", name, before[0], after[0], line)
    for change in value_changes(before[1], after[1], "artifacts"):
        yield Change("artifacts", name, change.before, change.after, f"{place}: metadata {change.text}")


def _words(part: str, before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    name = "command" if part == "command" else "arguments"
    if len(before) != len(after):
        yield Change(part, "", list(before), list(after), f"{name}: {len(before)} words -> {len(after)}")
        return
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            yield Change(part, str(number), old, new, f"{name}, word {number + 1}: {_pair(old, new)}")


def _rows(part: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[Change]:
    for row in before:
        if row not in after:
            yield Change(part, _row(part, row), row, ABSENT, f"{_row(part, row)} gone or changed")
    for row in after:
        if row not in before:
            yield Change(part, _row(part, row), ABSENT, row, f"{_row(part, row)} new or changed")


def _row(part: str, row: Any) -> str:
    if part == "volumes":
        return f"claim {row[1]} at {row[0]}"
    if part == "secrets":
        return f"{row[0]} {row[2]}, key {row[3]}"
    return f"scratch folder {row}"


def _follows(change: Change, causes: Sequence[Change]) -> bool:
    """Whether a word of the command or of the environment differs only by the inputs that it holds."""
    old, new = change.before, change.after
    if (
        change.part not in ("command", "args", "env")
        or not causes
        or not (isinstance(old, str) and isinstance(new, str))
    ):
        return False
    if _without_inputs(old) is not None and _without_inputs(old) == _without_inputs(new):
        return True
    for cause in causes:
        if ABSENT not in (cause.before, cause.after):
            old = old.replace(_held(cause.before), _held(cause.after))
    return bool(old == new)


def _held(value: Any) -> str:
    return text(value)


def _without_inputs(word: str) -> Any:
    """Return an executor input without its inputs; None for any other word."""
    if not word.startswith('{"inputs":'):
        return None
    try:
        document = json.loads(word)
    except ValueError:
        return None
    return {key: value for key, value in document.items() if key != "inputs"} if isinstance(document, dict) else None


def short(digest: Any) -> str:
    """Return a digest as people compare it: its first twelve digits."""
    kind, separator, rest = str(digest).rpartition(":")
    return f"{kind}{separator}{rest[:12]}"


def _pair(before: Any, after: Any) -> str:
    """Return `before -> after`; of long texts only the first line, or place, in which they differ."""
    if not (isinstance(before, str) and isinstance(after, str)) or len(before) + len(after) < 120:
        return f"{shorten(before)} -> {shorten(after)}"
    old, new = before.splitlines(), after.splitlines()
    line = next(
        (n for n, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), min(len(old), len(new))
    )
    shown = [shorten(lines[line].strip()) if line < len(lines) else "(end)" for lines in (old, new)]
    if len(old) > 1 or len(new) > 1:
        return f"line {line + 1}: {shown[0]} -> {shown[1]}"
    place = next((n for n, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0)
    start = max(0, place - 20)
    return f"from character {place + 1}: {shorten(before[start : start + 50])} -> {shorten(after[start : start + 50])}"

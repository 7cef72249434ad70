"""What a person sees while a run goes on: a live table on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from intermodal.engine.failure import Failure
from intermodal.engine.record import Observer
from intermodal.engine.states import State

if TYPE_CHECKING:
    from rich.table import Table

_SIGNS = {
    State.RUNNING: "▶",
    State.SUCCEEDED: "✓",
    State.CACHED: "↺",
    State.FAILED: "✗",
    State.SKIPPED: "–",
    State.CANCELLED: "■",
}
_COLOURS = {
    State.RUNNING: "cyan",
    State.SUCCEEDED: "green",
    State.CACHED: "green",
    State.FAILED: "red",
    State.CANCELLED: "yellow",
}
_SHOWN_ROWS = 40
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""A terminal's control sequences: CSI (colours, cursor), OSC (titles, links), and the short ones."""


class Progress(Observer, Protocol):
    """An observer that also announces the run."""

    def begin(self, run_id: str, notes: list[str]) -> None: ...


@contextmanager
def progress(*, live: bool) -> Iterator[Progress]:
    """Give an observer that shows the run; a live display is gone when this ends, its last state left on screen."""
    if not live:
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.live import Live

    shown = LiveProgress()
    with Live(console=Console(stderr=True), get_renderable=shown.table, refresh_per_second=4, transient=False):
        yield shown


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


class PlainProgress:
    """One line an event: `12.3s  train  SUCCEEDED  (11.0s)`, and each line of a step behind its name."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._gone = False
        self._quiet = os.environ.get("INTERMODAL_QUIET") == "1"

    def _print(self, text: str) -> None:
        with self._lock:
            if self._gone:
                return
            try:
                print(text, file=sys.stderr, flush=True)
            except OSError:  # whoever read it is gone (a closed pipe or terminal); the run and its record go on
                self._gone = True

    def begin(self, run_id: str, notes: list[str]) -> None:
        self._print(f"run {run_id}")
        for note in notes:
            self._print(f"note: {note}")

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None:
        since = f"{time.monotonic() - self._start:7.1f}s"
        took = f" ({duration(seconds)})" if state in (State.SUCCEEDED, State.FAILED) else ""
        extra = f" [{note}]" if note and note != "cached" else ""
        self._print(f"{since} {_SIGNS.get(state, ' ')} {path} {state.value}{took}{extra}")
        if failure is not None:
            self._print(f"{'':8}   {failure.kind.value}: {failure.message}")

    def line(self, path: str, line: bytes) -> None:
        if not self._quiet:
            self._print(f"{'':8} | {path}: {printable(line)}")


class LiveProgress:
    """A table of tasks with state, time and last line of output."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._title = ""
        self._notes: list[str] = []
        self._rows: dict[str, tuple[State, float, str]] = {}
        """Task path -> (state, start as monotonic time or duration once final, last line or failure)."""

    def begin(self, run_id: str, notes: list[str]) -> None:
        self._title, self._notes = f"run {run_id}", notes

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None:
        with self._lock:
            last = self._rows.get(path, (state, 0.0, ""))[2]
            text = f"{failure.kind.value}: {failure.message}" if failure else note or ("" if state.final else last)
            self._rows[path] = (state, seconds if state.final else time.monotonic(), text)

    def line(self, path: str, line: bytes) -> None:
        with self._lock:
            if path in self._rows:
                state, when, _ = self._rows[path]
                self._rows[path] = (state, when, printable(line))

    def table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._title, title_justify="left", box=None, pad_edge=False, expand=True)
        table.add_column("task", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        with self._lock:
            rows = list(self._rows.items())
        for path, (state, when, text) in rows[-_SHOWN_ROWS:]:
            seconds = when if state.final else time.monotonic() - when
            colour = _COLOURS.get(state, "dim")
            table.add_row(
                Text(path),  # in plain text rich would read [red] as markup
                Text(f"{_SIGNS.get(state, ' ')} {state.value.lower()}", style=colour),
                duration(seconds) if state is not State.SKIPPED else "",
                Text(text, style="red" if state is State.FAILED else "dim"),
            )
        if self._notes:
            table.caption = Text("\n".join(self._notes))
        return table

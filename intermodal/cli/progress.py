"""What a person sees while a run goes on: a live view on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from intermodal.cli.terminal import dying_tidily
from intermodal.cli.text import SIGNS, duration, printable
from intermodal.engine.backend import Usage
from intermodal.engine.failure import Failure
from intermodal.engine.graph import Graph
from intermodal.engine.record import Observer
from intermodal.engine.states import State


class Progress(Observer, Protocol):
    """An observer that also announces the run."""

    def begin(self, run_id: str, notes: list[str]) -> None: ...

    def watch(self, graph: Graph, usage: Callable[[], Mapping[str, Usage]]) -> None:
        """Look at a run's graph while it runs; `usage` tells what its attempts use, by the path of the task."""


@contextmanager
def progress(*, live: bool) -> Iterator[Progress]:
    """Give an observer that shows the run; the live view ends with this, its last state left on screen.

    However this ends, Ctrl-C and SIGTERM too, the terminal is as it was before.
    """
    if not live or os.environ.get("TERM") == "dumb":
        yield PlainProgress()
        return
    from intermodal.cli.live import LiveProgress

    shown = LiveProgress()
    with dying_tidily():
        try:
            yield shown
        finally:
            shown.end()


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

    def watch(self, graph: Graph, usage: Callable[[], Mapping[str, Usage]]) -> None:
        """There is nothing to look at: every line tells of what has just happened."""

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None:
        since = f"{time.monotonic() - self._start:7.1f}s"
        took = f" ({duration(seconds)})" if state in (State.SUCCEEDED, State.FAILED) else ""
        extra = f" [{note}]" if note and note != "cached" else ""
        self._print(f"{since} {SIGNS.get(state, ' ')} {path} {state.value}{took}{extra}")
        if failure is not None:
            self._print(f"{'':8}   {failure.kind.value}: {failure.message}")

    def line(self, path: str, line: bytes) -> None:
        if not self._quiet:
            self._print(f"{'':8} | {path}: {printable(line)}")

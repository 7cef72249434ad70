"""`intermodal logs [-f] [RUN] TASK`: what a task wrote; of all tasks, each line behind its task's name, if none is named.

To a pipe or a file go the bytes as they are. On a terminal they are made printable: a log cannot move the cursor.
With --json each line is an object, whoever reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from intermodal.backends.logs import LineSplitter
from intermodal.cli.records import open_database
from intermodal.cli.targets import WORDS_HELP, Target, find_target, known_paths, no_such_task, task_names
from intermodal.cli.text import printable
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.resume import is_held
from intermodal.engine.states import State
from intermodal.errors import BadInput

HELP = "print or follow the logs of tasks"
_POLL_SECONDS = 0.2
_ALIVE_SECONDS = 2.0
_CHUNK = 65536
_LONGEST_LINE = 2**20
"""Bytes of one line that are held back until its end; of a longer one the parts go out as they come."""


@dataclass(frozen=True)
class Attempt:
    """One attempt's log file. `ended`: nothing more will be written to it."""

    path: str
    number: int
    log: Path
    ended: bool


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="[RUN] TASK", help=f"{WORDS_HELP}; no task: all of them")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the task, or the run, has ended")
    parser.add_argument("-n", "--tail", type=_count, metavar="N", help="the last N lines of each attempt only")
    parser.add_argument(
        "--attempt", type=_attempt, default=0, metavar="N", help="which attempt: a number, or `all` (default: the last)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line: task, attempt, line")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    state = StateFolder(args.state.absolute())
    try:
        target = find_target(database, state, args.words)
        reader = _Reader(database, state, target, args.attempt)
        if args.follow and not reader.over():
            _follow(reader, args.tail, args.json)
        else:
            _print(reader, args.tail, args.json)
    finally:
        database.close()
    return 0


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def _attempt(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is no number of an attempt, nor `all`")
    return int(text)


class _Reader:
    """Reads from the record which logs are meant."""

    def __init__(self, database: Database, state: StateFolder, target: Target, number: int | None) -> None:
        """`number`: which attempt of a task; 0 for the last, None for all."""
        self._database = database
        self._state = state
        self.target = target
        self._number = number

    def attempts(self) -> list[Attempt]:
        """Return the attempts that are meant, in the order in which they began."""
        found = self.candidates()
        if self._number != 0:
            return found
        last = {attempt.path: attempt.number for attempt in found}
        return [attempt for attempt in found if attempt.number == last[attempt.path]]

    def candidates(self) -> list[Attempt]:
        """Return, where only the last attempt is meant, all that were or may become the last; else those that are meant."""
        rows = self._database.query(
            "SELECT path, number, log, ended FROM attempts WHERE run=? ORDER BY started, path", (self.target.run_id,)
        )
        chosen = set(self.target.choose(row["path"] for row in rows))
        return [
            Attempt(row["path"], row["number"], Path(row["log"]), row["ended"] is not None)
            for row in rows
            if row["path"] in chosen and (not self._number or row["number"] == self._number)
        ]

    def problem(self) -> BadInput:
        """Return why there is nothing to print."""
        run, name = self.target.run_id, self.target.name
        paths = self.target.choose(known_paths(self._database, run))
        if name is not None and not paths and name.rpartition("/")[2] not in task_names(self._state, run):
            return no_such_task(self.target, self._database, self._state)
        what = f"task {name!r} of run {run}" if name is not None else f"run {run}"
        if self._number and self._started():
            return BadInput(f"{what} has no attempt {self._number}")
        rows = self._database.query(
            "SELECT state, cached_from FROM tasks WHERE run=? AND path=?", (run, paths[0] if len(paths) == 1 else "")
        )
        if rows and rows[0]["cached_from"]:
            return BadInput(f"{what} came from the cache", hint=f"intermodal logs {rows[0]['cached_from']}")
        return BadInput(f"{what} has started nothing" + (f": {rows[0]['state'].lower()}" if rows else ""))

    def _started(self) -> bool:
        rows = self._database.query("SELECT path FROM attempts WHERE run=?", (self.target.run_id,))
        return bool(self.target.choose(row["path"] for row in rows))

    def over(self) -> bool:
        """Whether what is meant can write no more, as the record says."""
        rows = self._database.query("SELECT state FROM runs WHERE id=?", (self.target.run_id,))
        if State(rows[0]["state"]).final:
            return True
        rows = self._database.query(
            "SELECT state FROM tasks WHERE run=? AND path=?", (self.target.run_id, self.target.name)
        )
        return bool(rows) and State(rows[0]["state"]).final

    def has_runner(self) -> bool:
        return is_held(self._state.run(self.target.run_id))


def _print(reader: _Reader, tail: int | None, as_json: bool) -> None:
    attempts = reader.attempts()
    if not attempts:
        raise reader.problem()
    many = len({attempt.path for attempt in attempts}) > 1
    for attempt in attempts:
        if len(attempts) > 1 and not many and not as_json:
            print(f"--- {printable(attempt.path.encode())} attempt {attempt.number}", flush=True)
        if not attempt.log.is_file():
            raise BadInput(f"{attempt.log}: the log is gone")
        output = _json_output(attempt) if as_json else _output(attempt.path if many else None)
        _Followed(attempt.log, output, tail).read(ended=True)
        sys.stdout.buffer.flush()


def _follow(reader: _Reader, tail: int | None, as_json: bool) -> None:
    """Print as it comes. The record is asked before the files are read: once it says that all is over, so are they."""
    wanted = {(attempt.path, attempt.number) for attempt in reader.attempts()}
    passed = {(attempt.path, attempt.number) for attempt in reader.candidates()} - wanted
    followed: dict[tuple[str, int], _Followed] = {}
    quiet_since = time.monotonic()
    while True:
        over = reader.over()
        for attempt in reader.candidates():
            key = (attempt.path, attempt.number)
            if key in passed:
                continue
            if key not in followed:
                prefix = None if attempt.path == reader.target.name else attempt.path
                output = _json_output(attempt) if as_json else _output(prefix)
                followed[key] = _Followed(attempt.log, output, tail)
            if followed[key].read(ended=attempt.ended or over):
                quiet_since = time.monotonic()
        sys.stdout.buffer.flush()
        if over:
            break
        if time.monotonic() - quiet_since > _ALIVE_SECONDS:
            quiet_since = time.monotonic()
            if not reader.has_runner() and not reader.over():
                print(f"note: nothing runs {reader.target.run_id} any more", file=sys.stderr)
                break
        time.sleep(_POLL_SECONDS)
    if not followed:
        raise reader.problem()


@dataclass
class _Followed:
    """A log that grows. Its position outlives a truncation: an adopted attempt's log is written anew, with the same bytes."""

    log: Path
    output: _Output
    tail: int | None
    position: int | None = None
    done: bool = field(default=False)

    def read(self, *, ended: bool) -> bool:
        """Print what is new; return whether anything was."""
        if self.done:
            return False
        self.done = ended
        new = False
        try:
            with self.log.open("rb") as stream:
                if self.position is None:
                    self.position = _start_of_tail(stream, self.tail)
                stream.seek(self.position)
                for chunk in _chunks(stream):
                    new = True
                    self.position += len(chunk)
                    self.output.feed(chunk)
        except FileNotFoundError:
            pass  # not there yet: the attempt is being started
        if ended:
            self.output.close()
        return new


# Output


class _Output:
    """Where one log goes: `feed` bytes, `close` at the end."""

    def __init__(self, feed: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self.feed, self.close = feed, close


def _output(prefix: str | None) -> _Output:
    """Return where a log goes: as it is, or line by line behind a prefix, or made printable for a terminal."""
    if sys.stdout.isatty():
        label = f"{_coloured(printable(prefix.encode()))} | " if prefix is not None else ""
        lines = LineSplitter(lambda line: _put(f"{label}{printable(line, None)}\n".encode()))
        return _Output(lines.feed, lines.close)
    if prefix is None:
        return _Output(_put, lambda: None)
    whole = _WholeLines(lambda line: _put(prefix.encode() + b" | " + line + b"\n"))
    return _Output(whole.feed, whole.close)


def _json_output(attempt: Attempt) -> _Output:
    """Return where a log goes as JSON; bytes that are no UTF-8 become U+FFFD."""

    def put(line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        _put(json.dumps({"task": attempt.path, "attempt": attempt.number, "line": text}).encode() + b"\n")

    whole = _WholeLines(put)
    return _Output(whole.feed, whole.close)


def _put(data: bytes) -> None:
    sys.stdout.buffer.write(data)


def _coloured(text: str) -> str:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{31 + sum(text.encode()) % 6}m{text}\x1b[0m"


class _WholeLines:
    """Cuts bytes into lines and loses none of them."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._pending = bytearray()

    def feed(self, data: bytes) -> None:
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._on_line(bytes(self._pending) + piece)
            self._pending.clear()
        self._pending += rest
        if len(self._pending) > _LONGEST_LINE:
            self.close()

    def close(self) -> None:
        if self._pending:
            self._on_line(bytes(self._pending))
            self._pending.clear()


# Files


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _start_of_tail(stream: IO[bytes], lines: int | None) -> int:
    """Return where the last `lines` lines begin; a last line needs no newline."""
    if lines is None:
        return 0
    end = position = stream.seek(0, os.SEEK_END)
    left = lines + 1
    while position > 0:
        step = min(_CHUNK, position)
        stream.seek(position - step)
        block = stream.read(step)
        if position == end and not block.endswith(b"\n"):
            left -= 1
        index = len(block)
        while left > 0 and (index := block.rfind(b"\n", 0, index)) >= 0:
            left -= 1
            if left == 0:
                return position - step + index + 1
        position -= step
    return 0 if lines else end

"""Writing one attempt's log: bytes as they come, bounded in the file and in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

MAX_LINE = 8 * 1024
"""Longest line handed to `on_line`; the file keeps the line whole."""
MARKER = b"\n[intermodal: the log is over its limit; a part is left out here]\n"
_MAX_TAIL = 1024 * 1024


class LineSplitter:
    """Cuts a byte stream into lines of bounded length. What is over `MAX_LINE` is dropped, never buffered."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._pending = bytearray()

    def feed(self, data: bytes) -> None:
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._keep(piece)
            self._emit()
        self._keep(rest)

    def close(self) -> None:
        """Emit a last line that has no newline."""
        if self._pending:
            self._emit()

    def _keep(self, piece: bytes) -> None:
        room = MAX_LINE - len(self._pending)
        if room > 0:
            self._pending += piece[:room]

    def _emit(self) -> None:
        line = bytes(self._pending).removesuffix(b"\r")
        self._pending.clear()
        # A progress bar redraws its line with carriage returns: only the last state is a line.
        self._on_line(line.rpartition(b"\r")[2])


class LogWriter:
    """Writes a log file of at most `cap` bytes (and one marker line): its head as it comes, at the end its tail.

    The file is the attempt's whole log and nothing else, so opening it again (an attempt adopted by a new run of the
    command) starts it afresh.
    """

    def __init__(self, path: Path, cap: int, on_line: Callable[[bytes], None] | None = None) -> None:
        self.problem: OSError | None = None
        """Why the file is not whole: the first error of writing it. Lines go on to `on_line` all the same."""
        self._stream: BinaryIO | None = None
        try:
            self._stream = path.open("wb", buffering=0)
        except OSError as error:
            self.problem = error
        self._lines = LineSplitter(on_line) if on_line else None
        self._tail_room = min(_MAX_TAIL, cap // 4)
        self._head_room = cap - self._tail_room
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._dropped = False
        self._closed = False
        self.received = 0
        """Bytes seen so far, written or not."""

    def write(self, data: bytes) -> None:
        self.received += len(data)
        if self._lines:
            self._lines.feed(data)
        head, rest = data[: self._head_room], data[self._head_room :]
        if head:
            self._head_room -= len(head)
            self._put(head)
        if rest:
            self._keep_tail(rest)

    def _put(self, data: bytes) -> None:
        """Write to the file; after a first error (a full disk) nothing more is written."""
        if self._stream is None or self.problem is not None:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._stream.write(view) :]
        except OSError as error:
            self.problem = error

    def _keep_tail(self, data: bytes) -> None:
        if len(data) > self._tail_room:
            self._dropped = True
            data = data[len(data) - self._tail_room :]
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size > self._tail_room:
            oldest = self._tail.popleft()
            excess = min(len(oldest), self._tail_size - self._tail_room)
            if excess < len(oldest):
                self._tail.appendleft(oldest[excess:])
            self._tail_size -= excess
            self._dropped = True

    def replace_tail(self, chunks: Iterable[bytes]) -> None:
        """Take the end of `chunks` for the log's end, in place of what came after the head."""
        self._dropped = True
        self._tail.clear()
        self._tail_size = 0
        for chunk in chunks:
            self._keep_tail(chunk)

    def close(self) -> None:
        """Write the tail and close the file. Idempotent; never raises for a full disk (see `problem`)."""
        if self._closed:
            return
        self._closed = True
        if self._lines:
            self._lines.close()
        if self._dropped:
            self._put(MARKER)
        for piece in self._tail:
            self._put(piece)
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

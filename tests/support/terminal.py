"""A real terminal for a command: a pseudo terminal whose screen can be read."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte


class Terminal:
    """Runs a command in a terminal of its own (use with `with`); it is killed at the end if it still runs."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 100,
        lines: int = 30,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.raw = bytearray()
        """Everything the command wrote."""
        # The slave stays open here, so that what the command leaves set on the terminal can be looked at after its end.
        self._master, self._slave = pty.openpty()
        self._set_size(columns, lines)
        self.before = termios.tcgetattr(self._slave)
        self.child = subprocess.Popen(
            list(command),
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=cwd,
            env={**_without_size(os.environ), "TERM": "xterm-256color", **(env or {})},
            preexec_fn=self._take_terminal,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self._slave)
        self._reader.join(5)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: the last slave is closed
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, as a user who drags the window does; the command gets SIGWINCH."""
        with self._lock:
            self.screen.resize(lines, columns)
        self._set_size(columns, lines)

    def send(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    @property
    def text(self) -> str:
        """The screen as it is now, without trailing blanks."""
        with self._lock:
            return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def cursor_hidden(self) -> bool:
        with self._lock:
            return self.screen.cursor.hidden

    @property
    def modes_restored(self) -> bool:
        """Whether the terminal's settings (echo, line mode) are what they were before the command."""
        return termios.tcgetattr(self._slave) == self.before

    def wait_for(self, wanted: str | Callable[[str], bool], timeout: float = 60) -> str:
        """Return the screen once it holds a text, or is as `wanted` says. Fails the test with the screen after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.child.poll() is not None
            shown = self.text
            if wanted in shown if isinstance(wanted, str) else wanted(shown):
                return shown
            if time.monotonic() > deadline or (ended and self._drained()):
                raise AssertionError(f"not on the screen: {wanted!r}\n{shown}\n(raw: {bytes(self.raw[-2000:])!r})")
            time.sleep(0.05)

    def _drained(self) -> bool:
        """Whether nothing more has come for a moment."""
        before = len(self.raw)
        time.sleep(0.3)
        return len(self.raw) == before

    def interrupt(self) -> None:
        """Press Ctrl-C: the terminal sends SIGINT, or the byte if the command took the terminal raw."""
        self.send("\x03")

    def wait(self, timeout: float = 60) -> int:
        """Return the command's exit code once it has ended and all it wrote was read."""
        code = self.child.wait(timeout)
        while not self._drained():
            pass
        return code

    def kill(self, number: signal.Signals) -> None:
        self.child.send_signal(number)


def _without_size(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables that say nothing of a terminal's size: the size of this one is asked of it."""
    return {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}

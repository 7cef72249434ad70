"""A way to the storage that breaks: connections through it end once so many bytes were sent."""

from __future__ import annotations

import contextlib
import socket
import threading

_BLOCK = 2**16


class BreakingRelay:
    """Listens on 127.0.0.1 and passes everything on, until `limit` bytes went out; then all is cut, `times` times, and is well after."""

    def __init__(self, port: int, limit: int, times: int) -> None:
        """`port` is the storage's."""
        self._target = port
        self._limit = limit
        self._left = times
        self._sent = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True, name="emulator-relay").start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with self._lock:
                self._open |= {client, server}
            for source, target, counts in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(source, target, counts), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(_BLOCK)) and not (counts and self._breaks(len(data))):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()

    def _breaks(self, size: int) -> bool:
        with self._lock:
            self._sent += size
            if self._left == 0 or self._sent < self._limit:
                return False
            self._left -= 1
            self._sent = 0
            self._cut()
            return True

    def _cut(self) -> None:
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

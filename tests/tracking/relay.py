"""A way to the tracking server that breaks: a real listener, by which requests pass, hang, or are answered with an error."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal

Mode = Literal["pass", "hang", "broken"]
_BROKEN = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Listens on 127.0.0.1. `pass_for` requests pass at most before it hangs; MLflow's client makes a connection for each."""

    def __init__(self, port: int) -> None:
        self.mode: Mode = "pass"
        self.pass_for: int | None = None
        self.broken_at = b""
        """A word of the path of those requests that are answered with an error, whatever the connection that they come by."""
        self.accepted = 0
        self.credentials: dict[bytes, bytes] = {}
        """What requests had as `Authorization`, empty if nothing, by their first line."""
        self._target = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for end in (self._listener, *self._open):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(client)
            spent = self.pass_for is not None and self.accepted > self.pass_for
            if self.mode == "broken":
                threading.Thread(target=self._refuse, args=(client,), daemon=True).start()
            elif self.mode == "pass" and not spent:
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append(server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, target, client), daemon=True).start()

    def _refuse(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.recv(2**16)
            client.sendall(_BROKEN)
            client.close()

    def _pass(self, source: socket.socket, target: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                head, *lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
                if source is client and head.endswith(b" HTTP/1.1"):
                    given = [line[15:] for line in lines if line.lower().startswith(b"authorization: ")]
                    self.credentials[head] = b"".join(given)
                    if self.broken_at and self.broken_at in head:
                        client.sendall(_BROKEN)
                        break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

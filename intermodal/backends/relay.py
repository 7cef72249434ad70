"""Passes connections on, byte by byte. Its source runs inside of containers, too: the standard library alone, any Python from 3.7 on.

A step in network `tracking` has nothing but a loopback of its own. On it one program listens, this one, in a container beside the step
that shares the loopback; it passes connections on to a socket in a folder, behind which the runner's side passes them on to the server.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PORT = 5000
"""On the step's loopback."""
FOLDER = "/kfp/tracking"
"""Where the container beside the step sees the folder of the socket."""
SOCKET = "server.sock"
READY = "ready"


def relay(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Accept connections until the listener is closed; `connect` opens the other side of each."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_join, args=(client, connect), daemon=True).start()


def _join(client: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with client:
        try:
            server = connect()
        except OSError:
            return
        with server:
            back = threading.Thread(target=_pass, args=(server, client), daemon=True)
            back.start()
            _pass(client, server)
            back.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def connect_socket() -> socket.socket:
    """Open the socket in the folder, as the container beside the step sees it."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{FOLDER}/{SOCKET}")
    return server


if __name__ == "__main__":
    loopback = socket.socket()
    loopback.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    loopback.bind(("127.0.0.1", PORT))
    loopback.listen(64)
    print(READY)
    sys.stdout.flush()
    relay(loopback, connect_socket)

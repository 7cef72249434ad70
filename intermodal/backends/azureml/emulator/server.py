"""The wire: HTTPS with the emulator's own certificate, one thread a connection, requests given to one function."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from intermodal.backends.azureml.emulator.answers import Answer, Request
from intermodal.backends.azureml.emulator.certificates import Certificates

_IDLE = 120.0
"""Seconds that a connection may be silent."""
_LARGEST = 64 * 1024 * 1024
"""Bytes of a request's body; content goes to the storage, not here."""

Answering = Callable[[Request], Answer | None]
"""Answers a request, or says with None that the connection shall be dropped without a word."""


class Server(ThreadingHTTPServer):
    """Listens on one address until it is closed."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, certificates: Certificates, answer: Answering) -> None:
        """Listen; `port` 0 takes any. Raises OSError."""
        self.answer = answer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server, certificates.server_key)
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer asks the name service for the host's name here
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Handle one connection, in its own thread: a client that does not shake hands keeps nobody waiting."""
        request.settimeout(_IDLE)
        with self._context.wrap_socket(request, server_side=True) as connection:
            with self._lock:
                self._open.add(connection)
            try:
                super().finish_request(connection, client_address)
            finally:
                with self._lock:
                    self._open.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the client's business, and says nothing here."""

    def close(self) -> None:
        """Stop listening and end all connections."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "intermodal-emulator"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LARGEST or "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.close_connection = True
            self._send(Answer({"error": {"code": "RequestEntityTooLarge", "message": "send it to the storage"}}, 413))
            return
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
        )
        answer = self.server.answer(request)
        if answer is None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _serve

    def _send(self, answer: Answer) -> None:
        raw = isinstance(answer.body, bytes)
        data = answer.body if raw else b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        headers = dict(answer.headers)
        headers.setdefault("Content-Type", "application/octet-stream" if raw else "application/json; charset=utf-8")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests are the client's to log, and addresses hold signatures."""

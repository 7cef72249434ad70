"""How the server is asked: with the credentials of its address, which go nowhere else."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from intermodal.tracking.rest import Client


@contextmanager
def _server(leads_to: str = "") -> Iterator[tuple[str, list[str | None]]]:
    """Serve an answer, or the way to another server; give the address, and the credentials of each request."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(302 if leads_to else 200)
            self.send_header("Location", leads_to)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("user", "environment"),
    [
        ("me%2F1:p%40ss%25", {"MLFLOW_TRACKING_PASSWORD": "other"}),
        ("", {"MLFLOW_TRACKING_USERNAME": "me/1", "MLFLOW_TRACKING_PASSWORD": "p@ss%"}),
    ],
)
def test_credentials_are_those_of_the_address_and_follow_no_redirect(user: str, environment: dict[str, str]):
    with _server() as (other, led), _server(f"http://{other}/") as (address, asked):
        assert (
            Client(f"http://{user}@{address}" if user else f"http://{address}", environment, 10.0).call("GET", "x")
            == {}
        )
    assert asked == ["Basic " + base64.b64encode(b"me/1:p@ss%").decode()]
    assert led == [None]

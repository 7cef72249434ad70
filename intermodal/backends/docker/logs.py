"""Following a container's output without trusting the stream to hold."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator

import docker.errors
import requests
import urllib3
from docker import APIClient

from intermodal.backends.logs import LogWriter

_HEADER = struct.Struct(">BxxxL")
_STREAM_ERRORS = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, docker.errors.APIError, OSError)
_RETRY_SECONDS = 0.5
_STALL_SECONDS = 10.0
_TAIL_LINES = 100_000


class Demultiplexer:
    """Takes the frame headers out of the engine's log stream (8 bytes: stream number, zeros, big-endian length)."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def feed(self, chunk: bytes) -> bytes:
        """Return the payload in `chunk`; frames may be cut anywhere between chunks."""
        payload = bytearray()
        position = 0
        while position < len(chunk):
            if self._left:
                piece = chunk[position : position + self._left]
                payload += piece
                self._left -= len(piece)
                position += len(piece)
                continue
            need = _HEADER.size - len(self._header)
            self._header += chunk[position : position + need]
            position += need
            if len(self._header) == _HEADER.size:
                self._left = _HEADER.unpack(self._header)[1]
                self._header = b""
        return bytes(payload)


class LogFollower:
    """A thread that copies a container's output into a LogWriter while it runs.

    The engine keeps the output as one sequence of bytes, so a stream that breaks is opened again from its start and the
    bytes already had are skipped: nothing is lost and nothing is twice.
    """

    def __init__(self, client: APIClient, container: str, writer: LogWriter, cap: int) -> None:
        self._client = client
        self._container = container
        self._writer = writer
        self._cap = cap
        self._ended = threading.Event()
        self._response: requests.Response | None = None
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"log-{container[:12]}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Call once the container has ended: returns when the log is complete, or the engine gives no more of it."""
        self._ended.set()
        seen = -1
        while self._thread.is_alive() and seen != self._writer.received:
            seen = self._writer.received
            self._thread.join(_STALL_SECONDS)
        if self._thread.is_alive():  # a hung stream: cutting it ends the thread's read
            self._cut()
            self._thread.join(_STALL_SECONDS)
        if self._problem is not None:
            raise self._problem
        if self._thread.is_alive():
            return
        # What the engine has beyond what the stream gave. The exit status is known by now, and says more than the end
        # of a log: an engine that is gone is no reason to fail here.
        with contextlib.suppress(*_STREAM_ERRORS):
            if self._writer.received < self._cap:
                self._copy(follow=False)
            else:
                # The engine rotates what it keeps, and a stream across a rotation may have holes: ask for the end anew.
                self._writer.replace_tail(self._payloads(follow=False, tail=_TAIL_LINES))

    def _cut(self) -> None:
        """End the stream under the reading thread, which sees it as broken."""
        response = self._response
        if response is not None:
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has just ended by itself
                response.raw.shutdown()

    def _run(self) -> None:
        try:
            while True:
                try:
                    self._copy(follow=True)
                    return
                except _STREAM_ERRORS:
                    if self._ended.wait(_RETRY_SECONDS):
                        return
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            self._problem = error

    def _copy(self, *, follow: bool) -> None:
        skip = self._writer.received
        for data in self._payloads(follow=follow):
            if skip >= len(data):
                skip -= len(data)
                continue
            self._writer.write(data[skip:])
            skip = 0

    def _payloads(self, *, follow: bool, tail: int | None = None) -> Iterator[bytes]:
        url = f"{self._client.base_url}/v{self._client.api_version}/containers/{self._container}/logs"
        params: dict[str, str | int] = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": tail or "all"}
        with self._client.get(url, params=params, stream=True, timeout=(60, None if follow else 60)) as response:
            self._response = response
            response.raise_for_status()
            frames = Demultiplexer()
            for chunk in response.raw.stream(65536):
                payload = frames.feed(chunk)
                if payload:
                    yield payload

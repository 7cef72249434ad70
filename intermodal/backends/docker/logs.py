"""Following a container's output without trusting the stream to hold."""

from __future__ import annotations

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
        if self._thread.is_alive():  # a hung stream: closing it ends the thread's read
            if self._response is not None:
                self._response.close()
            self._thread.join(_STALL_SECONDS)
        if self._problem is not None:
            raise self._problem
        # Beyond the cap the engine may have dropped the beginning, and the file takes no more of it anyway.
        if not self._thread.is_alive() and self._writer.received < self._cap:
            try:
                self._copy(follow=False)
            except _STREAM_ERRORS:
                return  # the exit status is known and says more than the end of a log

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

    def _payloads(self, *, follow: bool) -> Iterator[bytes]:
        url = f"{self._client.base_url}/v{self._client.api_version}/containers/{self._container}/logs"
        params: dict[str, str | int] = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": "all"}
        with self._client.get(url, params=params, stream=True, timeout=(60, None if follow else 60)) as response:
            self._response = response
            response.raise_for_status()
            frames = Demultiplexer()
            for chunk in response.raw.stream(65536):
                payload = frames.feed(chunk)
                if payload:
                    yield payload

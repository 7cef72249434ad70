"""An engine that goes away: a relay in front of the real one is cut, for a moment or for good."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from intermodal.backends.docker import DockerBackend
from intermodal.backends.docker.client import address
from intermodal.engine.failure import AttemptFailed, FailureClass
from intermodal.testing.attempts import Attempts

pytestmark = pytest.mark.engine


class Relay:
    """Passes bytes between a socket of its own and the engine's."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path, self._engine = path, engine
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def up(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        self.path.unlink(missing_ok=True)
        for item in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
                item.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(tmp_path, monkeypatch, base_image):
    engine = address().removeprefix("http+").removeprefix("unix://")
    relay = Relay(tmp_path / "s", engine)
    relay.up()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{relay.path}")
    yield relay
    relay.down()


@pytest.fixture
def relayed(relay, tmp_path, base_image, session_docker):
    backend = DockerBackend(reconnect=3)
    backend.prepare(tmp_path)
    runner = Attempts(backend, tmp_path, base_image, "python3")
    yield runner
    session_docker.prepare(tmp_path)
    session_docker.cleanup(runner.run_id)
    backend.close()


COUNT = "import time\nfor n in range(40): print(n, flush=True); time.sleep(0.05)"


def test_a_short_loss_changes_nothing(relay, relayed):
    lines: list[bytes] = []
    launch = relayed.code(COUNT)
    handle = relayed.backend.start(launch)
    threading.Timer(0.5, relay.down).start()
    threading.Timer(1.5, relay.up).start()
    ended = relayed.backend.wait(handle, launch, lines.append)
    assert ended.failure is None
    assert lines == [str(number).encode() for number in range(40)]


def test_a_lost_engine_is_named(relay, relayed):
    launch = relayed.code("import time; time.sleep(30)")
    handle = relayed.backend.start(launch)
    threading.Timer(0.3, relay.down).start()
    ended = relayed.backend.wait(handle, launch)
    assert ended.exit_code is None
    assert ended.failure is not None
    assert ended.failure.kind is FailureClass.ENGINE_LOST
    relayed.backend.stop(handle, 0)
    relayed.backend.remove(handle)


def test_starting_on_a_lost_engine_is_a_failure_of_the_attempt(relay, relayed):
    relay.down()
    with pytest.raises(AttemptFailed) as caught:
        relayed.backend.start(relayed.launch("true"))
    assert caught.value.failure.kind is FailureClass.ENGINE_LOST

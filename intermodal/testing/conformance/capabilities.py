"""What is declared is true."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from intermodal.engine.backend import Capabilities, Limits
from intermodal.engine.failure import FailureClass
from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases

_SMALL = Limits(memory=64 * 2**20)
_HOG = "bytearray(400 * 2**20)"
_CHILD_HOG = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{_HOG}'])"
_REACH = """
import socket, sys
port = int(sys.argv[1])
for host in sys.argv[2:]:
    try:
        socket.create_connection((host, port), timeout=3).close()
        print("reached", host)
    except OSError:
        pass
"""
_BUSY = """
import os, time
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pass
        os._exit(0)
    children.append(child)
started = time.monotonic()
for child in children:
    os.waitpid(child, 0)
spent = os.times()
print((spent.children_user + spent.children_system) / (time.monotonic() - started))
"""


class CapabilityCases(Cases):
    """One case for each promise; a backend that does not make it says so in a note."""

    def test_what_is_not_isolated_is_said(self, attempts: Attempts) -> None:
        declared = attempts.backend.capabilities
        assert isinstance(declared, Capabilities)
        if not (declared.isolates_filesystem and declared.isolates_network and declared.enforces_memory):
            assert declared.notes
        assert all(note and "\n" not in note for note in declared.notes)

    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        """A server of this machine, on every address of it."""
        with socket.create_server(("0.0.0.0", 0), backlog=16) as server:
            yield server

    def test_no_network_is_reached_where_it_is_isolated(self, attempts: Attempts, listener: socket.socket) -> None:
        if not attempts.backend.capabilities.isolates_network:
            pytest.skip("declares that it does not isolate the network")
        launch = attempts.code(_REACH, str(listener.getsockname()[1]), "127.0.0.1", *_own_addresses())
        assert attempts.run(launch).failure is None, launch.log.read_text()
        assert launch.log.read_bytes() == b""

    @pytest.mark.parametrize(
        ("source", "code"),
        [(_HOG, 137), (f"{_CHILD_HOG}; sys.exit(1)", 1), (f"{_CHILD_HOG}; print('all is well')", 0)],
        ids=["step", "child-exit-1", "child-exit-0"],
    )
    def test_out_of_memory_is_named_where_a_limit_holds(self, attempts: Attempts, source: str, code: int) -> None:
        if not attempts.backend.capabilities.enforces_memory:
            pytest.skip("declares that it enforces no memory limit")
        for _ in range(3):
            ended = attempts.run(attempts.code(source, limits=_SMALL))
            assert ended.exit_code == code
            assert ended.failure is not None
            assert ended.failure.kind is FailureClass.OOM
            assert "64 MiB" in ended.failure.message

    def test_a_step_within_its_memory_is_not_touched(self, attempts: Attempts) -> None:
        assert attempts.run(attempts.code("bytearray(20 * 2**20)", limits=_SMALL)).failure is None

    def test_cpus_are_capped_where_a_limit_holds(self, attempts: Attempts) -> None:
        if not attempts.backend.capabilities.enforces_cpu:
            pytest.skip("declares that it enforces no CPU limit")
        launch = attempts.code(_BUSY, limits=Limits(cpus=0.3, memory=256 * 2**20))
        assert attempts.run(launch).failure is None
        assert float(launch.log.read_text()) < 0.6


def _own_addresses() -> list[str]:
    """Return addresses under which this machine may be reached by a step that has a network."""
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks the kernel which address would be used
            found.add(probe.getsockname()[0])
        except OSError:
            pass
    return sorted(str(address) for address in found)

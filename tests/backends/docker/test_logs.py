"""Output of real containers: floods, long lines, bytes that are no text, streams that break."""

from __future__ import annotations

import resource
import threading

import pytest

from intermodal.backends.docker.logs import LogFollower
from intermodal.backends.logs import MARKER, MAX_LINE, LogWriter

pytestmark = pytest.mark.engine
MIB = 2**20


def test_one_line_of_fifty_megabytes(docker):
    # Engine 20.10 loses the newline of a line over 16 KiB: nothing here can tell.
    lines: list[bytes] = []
    launch = docker.code(
        "import sys\nfor _ in range(50): sys.stdout.write('y' * 1_000_001)\nprint('\\nend')", log_cap=4 * MIB
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert docker.run(launch, lines.append).failure is None
    assert [len(line) for line in lines[:1]] == [MAX_LINE]
    assert launch.log.read_bytes().endswith(b"end\n")
    assert launch.log.stat().st_size < 4 * MIB + 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024


def test_a_flood_is_capped_with_head_marker_and_tail(docker):
    launch = docker.code(
        "import sys\nprint('first')\nfor _ in range(300): sys.stdout.write(('z' * 999 + '\\n') * 400)\nprint('final')",
        log_cap=2 * MIB,
    )
    assert docker.run(launch).failure is None
    content = launch.log.read_bytes()
    assert content.startswith(b"first\n")
    assert content.endswith(b"final\n")
    assert content.count(MARKER) == 1
    assert len(content) < 2 * MIB + 200


def test_a_broken_stream_loses_and_repeats_nothing(docker, tmp_path):
    source = "import time\nfor n in range(200): print(n, flush=True); time.sleep(0.02)"
    launch = docker.code(source)
    handle = docker.backend.start(launch)
    lines: list[bytes] = []
    follower: LogFollower

    def break_now_and_then(line: bytes) -> None:
        lines.append(line)
        if len(lines) in (20, 80, 120):
            threading.Thread(target=follower._cut).start()

    with LogWriter(tmp_path / "log", MIB, break_now_and_then) as writer:
        follower = LogFollower(docker.backend._client, handle, writer, MIB)
        follower.start()
        docker.backend._client.wait(handle)
        follower.finish()
    docker.backend.remove(handle)
    assert lines == [str(number).encode() for number in range(200)]

"""Output: bytes as they are, in order, complete, bounded."""

from __future__ import annotations

import pytest

from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases

_MIB = 2**20
_LONGEST_LINE = 64 * 1024


class LogCases(Cases):
    """What is in the log once `wait` has returned, and which lines were handed on meanwhile."""

    def test_both_streams_are_in_the_log_and_handed_on_by_line(self, attempts: Attempts) -> None:
        lines: list[bytes] = []
        source = (
            "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); print('last', end='')"
        )
        launch = attempts.code(source)
        attempts.run(launch, lines.append)
        assert sorted(lines) == [b"err", b"last", b"out"]
        assert sorted(launch.log.read_bytes().split()) == [b"err", b"last", b"out"]

    def test_bytes_are_kept_as_they_are(self, attempts: Attempts) -> None:
        said = bytes(range(256)) * 3 + "€".encode()[:2] + b"\n"
        launch = attempts.code(f"import os; os.write(1, {said!r})")
        attempts.run(launch)
        assert launch.log.read_bytes() == said

    def test_a_silent_step_has_an_empty_log(self, attempts: Attempts) -> None:
        launch = attempts.code("pass")
        attempts.run(launch)
        assert launch.log.read_bytes() == b""

    @pytest.mark.parametrize("size", [_MIB, 10 * _MIB])
    def test_the_log_of_a_fast_end_is_whole_and_in_order(self, attempts: Attempts, size: int) -> None:
        count = size // 100
        source = f"import os, sys; sys.stdout.write(''.join('%099d\\n' % n for n in range({count}))); sys.stdout.flush(); os._exit(7)"
        launch = attempts.code(source)
        seen: list[bytes] = []
        assert attempts.run(launch, seen.append).exit_code == 7
        assert launch.log.read_bytes() == b"".join(b"%099d\n" % n for n in range(count))
        assert seen == [b"%099d" % n for n in range(count)]

    def test_a_line_without_end_is_kept_whole_and_handed_on_in_part(self, attempts: Attempts) -> None:
        launch = attempts.code(f"import sys; sys.stdout.write('y' * {3 * _MIB})")
        seen: list[bytes] = []
        assert attempts.run(launch, seen.append).failure is None
        assert launch.log.read_bytes() == b"y" * (3 * _MIB)
        assert len(seen) == 1
        assert 0 < len(seen[0]) <= _LONGEST_LINE

    def test_a_flood_is_bounded_and_keeps_its_head_and_its_tail(self, attempts: Attempts) -> None:
        source = "print('first')\nfor _ in range(40): print(('z' * 999 + '\\n') * 400, end='')\nprint('final')"
        launch = attempts.code(source, log_cap=2 * _MIB)
        assert attempts.run(launch).failure is None
        content = launch.log.read_bytes()
        assert content.startswith(b"first\n")
        assert content.endswith(b"final\n")
        assert _MIB < len(content) < 2 * _MIB + 4096

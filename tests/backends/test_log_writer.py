"""The log writer, without an engine."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from intermodal.backends.docker.logs import Demultiplexer
from intermodal.backends.logs import MARKER, MAX_LINE, LineSplitter, LogWriter


@given(st.binary(max_size=400), st.lists(st.integers(1, 40), min_size=1))
def test_lines_do_not_depend_on_how_the_stream_is_cut(data, sizes):
    whole: list[bytes] = []
    cut: list[bytes] = []
    splitter = LineSplitter(whole.append)
    splitter.feed(data)
    splitter.close()
    splitter, position, turn = LineSplitter(cut.append), 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        splitter.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    splitter.close()
    assert cut == whole


@given(st.lists(st.binary(max_size=60)), st.integers(1, 17))
def test_frames_may_be_cut_anywhere(payloads, size):
    stream = b"".join(struct.pack(">BxxxL", 1 + n % 2, len(data)) + data for n, data in enumerate(payloads))
    frames = Demultiplexer()
    got = b"".join(frames.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    assert got == b"".join(payloads)


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(4, 1000))
def test_a_log_is_whole_or_says_what_is_left_out(tmp_path_factory, chunks, cap):
    path: Path = tmp_path_factory.mktemp("log") / "log"
    data = b"".join(chunks)
    with LogWriter(path, cap) as writer:
        for chunk in chunks:
            writer.write(chunk)
    content = path.read_bytes()
    if len(data) <= cap:
        assert content == data
    else:
        tail = cap // 4
        assert content == data[: cap - tail] + MARKER + data[len(data) - tail :]


def test_a_redrawn_line_is_its_last_state_and_no_line_is_unbounded():
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    splitter.feed(b" 10%\r 50%\r100%\n" + b"a\r\n" + b"x" * 5 * MAX_LINE)
    splitter.feed(b"x\nb")
    splitter.close()
    assert lines == [b"100%", b"a", b"x" * MAX_LINE, b"b"]

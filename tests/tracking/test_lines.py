"""What a step may have written, read: hostile, half written, endless."""

from __future__ import annotations

import json
import os
from pathlib import Path

from intermodal.tracking.lines import Told, read_told


def _read(folder: Path, position: int = 0) -> tuple[dict[int | None, Told], int]:
    found: dict[int | None, Told] = {}
    for told, behind in read_told(folder, position, 7):
        position = behind
        for trial, what in told.items():
            into = found.setdefault(trial, Told())
            into.points += what.points
            into.params |= what.params
            into.tags |= what.tags
    return found, position


def test_nonsense_is_left_out_and_the_rest_counts(tmp_path):
    good = {"metrics": {"loss": 1, "a b#c": 2, "text": "x", "yes": True, "huge": 10**400}, "step": 2, "time": 5}
    lines = [
        b"\xff\xfe not text",
        b"[" * 100000,
        b"x" * 2_000_000,
        b'"text"',
        b'{"metrics": 3, "params": [], "tags": {"mlflow.parentRunId": "1", "intermodal.key": "2", "mine": "3"}}',
        b'{"trial": "one", "metrics": {"f1": 1}}',
        b'{"trial": -1, "metrics": {"f1": 1}}',
        json.dumps(good).encode(),
        b'{"metrics": {"loss": Infinity}}',
        b'{"params": {"lr": "\\ud800", "long": "' + b"y" * 10000 + b'"}}',
        b'{"metrics": {"half',
    ]
    (tmp_path / "tracking.jsonl").write_bytes(b"\n".join(lines))
    found, position = _read(tmp_path)
    assert set(found) == {None}
    told = found[None]
    assert told.points == [
        {"key": "loss", "value": 1.0, "timestamp": 5, "step": 2},
        {"key": "a b_c", "value": 2.0, "timestamp": 5, "step": 2},
        {"key": "loss", "value": "Infinity", "timestamp": 7, "step": 0},
    ]
    assert told.tags == {"mine": "3"}
    assert told.params["lr"] == "?" and len(told.params["long"]) == 6000
    with (tmp_path / "tracking.jsonl").open("ab") as stream:
        stream.write(b'": 1}}\n')
    rest, end = _read(tmp_path, position)
    assert [point["key"] for point in rest[None].points] == ["half"] and end > position


def test_a_link_or_a_pipe_in_its_place_is_nothing(tmp_path):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/tracking.jsonl").symlink_to("/etc/passwd")
    assert _read(tmp_path) == ({}, 0)
    os.mkfifo(tmp_path / "tracking.jsonl")
    assert _read(tmp_path) == ({}, 0)

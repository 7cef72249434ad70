"""The lines that a step leaves, written by real processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from components.tracking_file import MAX_LINE, VARIABLE, open_tracking_file
from intermodal.tracking import schema

PROJECT = Path(__file__).parents[2]


def test_lines_say_what_was_told(tmp_path):
    path = tmp_path / "tracking.jsonl"
    file = open_tracking_file({VARIABLE: str(path)})
    file.params({"lr": 0.1, "path": tmp_path})
    file.metrics({"loss": 1}, step=2)
    file.tags({"a": "b"})
    file.trial(3, "COMPLETE", study="s", params={"lr": 0.2}, metrics={"f1": 0.5})
    params, metrics, tags, trial = [json.loads(line) for line in path.read_text().splitlines()]
    assert params == {"params": {"lr": 0.1, "path": str(tmp_path)}}
    assert metrics.pop("time") > 1_700_000_000_000 and metrics == {"step": 2, "metrics": {"loss": 1.0}}
    assert tags == {"tags": {"a": "b"}}
    assert trial.pop("time")
    assert trial == {"trial": 3, "state": "COMPLETE", "study": "s", "params": {"lr": 0.2}, "metrics": {"f1": 0.5}}


def test_nothing_is_written_where_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_tracking_file({}).metrics({"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, capsys):
    file = open_tracking_file({VARIABLE: str(tmp_path / "no" / "folder")})
    file.metrics({"loss": 1.0})
    file.metrics({"loss": 2.0})
    assert capsys.readouterr().out.count("not tracked:") == 1
    file = open_tracking_file({VARIABLE: str(tmp_path / "file")})
    file.params({"long": "x" * MAX_LINE})
    file.params({"short": "x"})
    assert "not tracked: a line of" in capsys.readouterr().out
    assert json.loads((tmp_path / "file").read_text()) == {"params": {"short": "x"}}


def test_lines_of_several_processes_stay_whole(tmp_path):
    path = tmp_path / "tracking.jsonl"
    code = (
        "import sys; from components.tracking_file import open_tracking_file; file = open_tracking_file()\n"
        "for step in range(200): file.metrics({'x' * 3000: 1.0}, step=step, trial=int(sys.argv[1]))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=PROJECT, env={VARIABLE: str(path)})
        for number in range(4)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    seen = {(line["trial"], line["step"]) for line in map(json.loads, path.read_text().splitlines())}
    assert seen == {(trial, step) for trial in range(4) for step in range(200)}


def test_the_schema_names_each_tag_once():
    names = {name: value for name, value in vars(schema).items() if isinstance(value, str) and not name.startswith("_")}
    tags = [value for value in names.values() if value.startswith("intermodal.")]
    assert len(tags) == len(set(tags)) > 20
    assert schema.TRACKING_FILE == VARIABLE
    assert schema.trial_key(schema.run_key("run", "loop/0/train", attempt=2), 3) == "run/loop/0/train@2#3"

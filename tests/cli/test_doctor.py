"""The doctor, on this machine as it is and as it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intermodal.cli.doctor import _disk, examine
from intermodal.cli.main import main


def _lines(capsys) -> dict[str, str]:
    return {line[6:18].strip(): line for line in capsys.readouterr().out.splitlines()}


@pytest.mark.engine
def test_a_machine_that_has_all(tmp_path, capsys):
    assert main(["doctor", "--state", str(tmp_path)]) == 0
    lines = _lines(capsys)
    assert lines["engine"].startswith("ok")
    assert lines["sharing"].startswith("ok")
    assert lines["state"].startswith("ok")
    assert not any(line.startswith("fail") for line in lines.values())
    assert list(tmp_path.iterdir()) == []


def test_no_engine_is_a_failure_with_a_way_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    assert main(["doctor", "--state", str(tmp_path)]) == 3
    line = _lines(capsys)["engine"]
    assert line.startswith("fail")
    assert "/nonexistent.sock" in line
    assert "BACKEND=process" in line


def test_a_state_folder_that_cannot_be_written(monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    assert main(["doctor", "--state", "/proc/intermodal"]) == 3
    assert _lines(capsys)["state"].startswith("fail")


def test_a_state_folder_is_not_made_by_looking(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    checks = {check.name: check for check in examine(tmp_path / "a" / "b")}
    assert checks["state"].level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_is_judged_by_what_is_free(tmp_path):
    assert _disk("disk", tmp_path, "hint").level in ("ok", "warn")
    assert _disk("disk", tmp_path / "gone", "hint").level == "warn"
    full = _disk("disk", Path("/sys"), "free some")
    assert (full.level, full.hint) == ("fail", "free some")


def test_the_checks_as_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    assert main(["doctor", "--state", str(tmp_path), "--json"]) == 3
    checks = {check["name"]: check for check in map(json.loads, capsys.readouterr().out.splitlines())}
    assert checks["engine"]["level"] == "fail" and "BACKEND=process" in checks["engine"]["hint"]
    assert sorted(checks["state"]) == ["hint", "level", "message", "name"]

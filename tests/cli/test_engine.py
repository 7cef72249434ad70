"""`intermodal engine up`, as make calls it."""

from __future__ import annotations

import json

import pytest

from intermodal.cli.main import main


@pytest.mark.engine
def test_an_engine_that_answers_is_named(capsys):
    assert main(["engine", "up"]) == 0
    out = capsys.readouterr()
    assert out.out.startswith("Docker engine ")
    assert out.err == ""
    assert main(["engine", "up", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "docker"


def test_an_engine_that_is_asked_for_and_absent_is_not_replaced(capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    assert main(["engine", "up"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: no Docker engine answers at unix:///nonexistent.sock")
    assert "hint: " in error


def test_an_unknown_action_is_bad_input():
    with pytest.raises(SystemExit) as caught:
        main(["engine", "down"])
    assert caught.value.code == 2

"""Whether runs are tracked, and where: who has the word."""

from __future__ import annotations

from pathlib import Path

import pytest

from intermodal.errors import BadInput
from intermodal.settings import Settings
from intermodal.tracking.target import target, wanted


def _settings(**tracking: object) -> Settings:
    return Settings.model_validate({"tracking": tracking})


@pytest.mark.parametrize(
    ("tracking", "environment", "on"),
    [
        ({}, {}, False),
        ({"enabled": True}, {}, True),
        ({"uri": "https://mlflow.example.org"}, {}, True),
        ({}, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}, True),
        ({}, {"MLFLOW_TRACKING_URI": "databricks"}, False),
        ({"enabled": False}, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}, False),
        ({"enabled": False}, {"INTERMODAL_TRACKING": "on"}, True),
        ({"enabled": True}, {"INTERMODAL_TRACKING": "off"}, False),
    ],
)
def test_the_first_that_says_something_decides(tracking, environment, on):
    assert wanted(_settings(**tracking), environment) is on


def test_the_server_of_the_environment_wins_and_is_shown_without_its_secrets(tmp_path: Path):
    settings = _settings(uri="https://mlflow.example.org")
    assert target(settings, {}, tmp_path).known() == "https://mlflow.example.org"
    mine = target(settings, {"MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:5000/"}, tmp_path)
    assert (mine.open(), mine.known(), mine.shown) == (
        "http://me:secret@127.0.0.1:5000/", "http://127.0.0.1:5000", "http://127.0.0.1:5000"
    )  # fmt: skip
    assert target(_settings(), {}, tmp_path).known() is None
    with pytest.raises(BadInput, match="expected http"):
        target(settings, {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, tmp_path)


@pytest.mark.parametrize("uri", ["ftp://there", "https://me:secret@there", "there"])
def test_settings_name_a_server_and_no_password(uri: str):
    with pytest.raises(ValueError, match="pattern"):
        _settings(uri=uri)
    with pytest.raises(BadInput, match="on or off"):
        wanted(_settings(), {"INTERMODAL_TRACKING": "maybe"})

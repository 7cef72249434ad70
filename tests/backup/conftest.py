"""A state volume, a mounted drive, and the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from intermodal.engine.layout import StateFolder
from tests.backup.server import VARIABLE, Azure, azurite
from tests.support.command import Command


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = StateFolder.at(tmp_path / "state").root / "volumes" / "hpo"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "drive"
    folder.mkdir()
    return folder


@pytest.fixture
def intermodal(tmp_path: Path) -> Command:
    return Command(tmp_path, tmp_path / "state")


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    with azurite(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def azure(azure_server: Azure, monkeypatch: pytest.MonkeyPatch) -> Azure:
    """The server, which the command knows by the environment."""
    monkeypatch.setenv(VARIABLE, azure_server.connection)
    return azure_server


def said(done) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done, words: str) -> None:
    assert done.returncode in (2, 3) and words in done.stderr.decode() and done.stderr.count(b"error:") == 1

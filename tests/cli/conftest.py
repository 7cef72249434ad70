"""The command as typed, on no engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.typed import Command


@pytest.fixture
def intermodal(tmp_path: Path) -> Command:
    return Command(tmp_path)

"""The hand-written pipelines of the oracle's tests: compiled and executed node by node, every task must end as on the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.azureml.conftest import agreeing
from tests.backends.azureml.emulator.proof import on
from tests.backends.azureml.test_control_flow import *  # noqa: F403
from tests.backends.azureml.test_data import *  # noqa: F403
from tests.oracle.conftest import Agree

del test_loops_over_fields_of_items  # noqa: F821 - a hundred slots, of which most are empty: half a minute of starting Python


@pytest.fixture
def agree(tmp_path: Path) -> Agree:
    return agreeing(tmp_path, on())

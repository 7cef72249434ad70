"""A workspace for the tests of one module, and a real client of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from intermodal.backends.azureml.emulator.client import connect
from intermodal.backends.azureml.emulator.plane import Plane, running
from tests.backends.azureml.emulator.wire.local import LocalExecutor
from tests.support.azurite import TOOLS


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running(tmp_path_factory.mktemp("workspace"), LocalExecutor, tools=TOOLS) as plane:
        yield plane


@pytest.fixture
def client(plane: Plane) -> Iterator[Any]:
    with connect(plane.folder) as client:
        yield client

"""Random pipelines: the engine and the oracle must agree on every input, output, state and skip."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from intermodal.engine.options import Options
from tests.oracle.conftest import both
from tests.oracle.random_ir import pipelines
from tests.oracle.stub import StubBackend, stub


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(pipelines())
def test_random_pipelines(document: dict[str, Any]):
    with tempfile.TemporaryDirectory(prefix="intermodal-random-") as name:
        path = Path(name) / "pipeline.yaml"
        path.write_text(json.dumps(document), encoding="utf-8")
        both(path, {}, Path(name), StubBackend(), Options(cache=False), stub)

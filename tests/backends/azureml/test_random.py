"""Random pipelines, compiled for AzureML: every leaf must end as the engine says, with the same outputs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.options import Options
from tests.backends.azureml.conftest import compare
from tests.oracle.conftest import both
from tests.oracle.random_ir import pipelines
from tests.oracle.stub import StubBackend, stub


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(pipelines())
def test_random_pipelines(document: dict[str, Any]):
    with tempfile.TemporaryDirectory(prefix="intermodal-random-") as name:
        path, options = Path(name) / "pipeline.yaml", Options(cache=False)
        path.write_text(json.dumps(document), encoding="utf-8")
        seen = both(path, {}, Path(name), StubBackend(), options, stub)
        compare(seen, path, {}, Path(name) / "azureml", options, _run)


def _run(command: Sequence[str], _env: Mapping[str, str]) -> Failure | None:
    code = stub(list(command))
    return Failure(FailureClass.USER_CODE, f"exited with code {code}", code) if code else None

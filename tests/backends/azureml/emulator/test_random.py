"""Random pipelines in containers: on the Docker backend and, compiled, on the emulator every task must end alike, byte for byte."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from intermodal.backends.azureml.compile import compile_pipeline
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.report import GAPS
from intermodal.backends.docker import DockerBackend
from intermodal.engine.artifacts import Inputs
from intermodal.engine.options import Options as RunOptions
from intermodal.engine.session import Request, Session
from intermodal.engine.store import Store
from intermodal.errors import IntermodalError
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from tests.backends.azureml.conftest import SETTINGS, compare
from tests.backends.azureml.emulator.jobs import IMAGE
from tests.backends.azureml.emulator.proof import on
from tests.conftest import Recorder
from tests.oracle import stub
from tests.oracle.agreement import found
from tests.oracle.conftest import Agreed
from tests.oracle.random_ir import pipelines

FUNCTIONS = (stub.stub, stub._digest, stub._contents, stub._content, stub._value, stub._artifacts)
PROGRAM = "\n".join(
    [
        "from __future__ import annotations",
        "import hashlib, json, sys",
        "from pathlib import Path",
        *map(inspect.getsource, FUNCTIONS),
        "sys.exit(stub(['stub', *sys.argv[1:]]))",
    ]
)
"""The oracle's deterministic program, for a container."""


@pytest.mark.engine
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(pipelines())
def test_random_pipelines_in_containers(document: dict[str, Any]):
    container = document["deploymentSpec"]["executors"]["exec"]["container"]
    container |= {"image": IMAGE, "command": ["python3", "-c", PROGRAM, *container["command"][1:]]}
    with tempfile.TemporaryDirectory(prefix="intermodal-random-") as name:
        folder, options = Path(name), RunOptions(cache=False)
        path = folder / "pipeline.yaml"
        path.write_text(json.dumps(document), encoding="utf-8")
        assume(fits(path))
        compare(
            on_docker(path, folder, options),
            path,
            {},
            folder / "azureml",
            options,
            play=on(DockerBackend(), Options(cores=2)),
        )


def fits(path: Path) -> bool:
    """Whether the pipeline compiles to some nodes, and not to many."""
    try:
        return 4 <= len(compile_pipeline(load_pipeline(path), Inputs(), SETTINGS, accept=GAPS).lowered.nodes) <= 9
    except IntermodalError:
        return False


def on_docker(path: Path, folder: Path, options: RunOptions) -> Agreed:
    with Session(folder / "state", DockerBackend(), Settings(), options) as session:
        runner = session.runner(Request(load_pipeline(path), {}), Recorder())
        session.execute(runner)
    return Agreed(found(runner.graph, Store(folder / "state" / "store")), {}, runner.graph)

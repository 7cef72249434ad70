"""The fixture of the oracle's tests, for AzureML: what the engine does, the compiled job must do too."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from intermodal.backends.azureml.compile import Compiled, argument_artifact, compile_pipeline
from intermodal.backends.azureml.launcher.step import Execute, execute
from intermodal.backends.azureml.report import GAPS
from intermodal.backends.azureml.settings import AzureMLSettings, InstanceType
from intermodal.engine.artifacts import Inputs
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.options import Options
from intermodal.errors import Unsupported
from intermodal.spec.load import load_pipeline
from tests.backends.azureml.simulate import Simulated, simulate
from tests.oracle.agreement import content
from tests.oracle.conftest import Agree, Agreed, both
from tests.support.host import HostBackend

REFUSED = (
    "loops over artifacts",
    "AzureML cannot mount",
    "AzureML binds data at submission",
    "has no container task",
    "its image is an output of a task",
    "its container has no command",
    "an importer with a condition of its own",
)
"""What the compiler may refuse: AzureML has no form for it. Everything else must compile and agree."""


Play = Callable[[Compiled, Path], Simulated]
"""Runs a compiled job in a folder."""
SETTINGS = AzureMLSettings(
    fan_out=8, instance_types=[InstanceType(cpus=64, memory="256Gi", instance_type="Standard_D64s_v3")]
)


@pytest.fixture
def agree(tmp_path: Path) -> Agree:
    """Run a pipeline by the engine (and the oracle), then compiled, and fail where they differ."""
    return agreeing(tmp_path)


def agreeing(tmp_path: Path, play: Play | None = None) -> Agree:
    """Return what runs a pipeline both ways, the compiled job by `play`."""

    def go(
        pipeline: Any,
        *,
        program: Any = None,
        backend: HostBackend | None = None,
        options: Options | None = None,
        **arguments: Any,
    ) -> Agreed:
        path = tmp_path / "pipeline.yaml"
        if isinstance(pipeline, Mapping):
            path.write_text(json.dumps(pipeline), encoding="utf-8")
        else:
            from kfp import compiler

            compiler.Compiler().compile(pipeline, str(path))
        chosen = options or Options(cache=False, grace=1.0)
        seen = both(path, arguments, tmp_path, backend or HostBackend(), chosen, program)
        compare(seen, path, arguments, tmp_path / "azureml", chosen, play=play)
        return seen

    return go


def compare(
    seen: Agreed,
    path: Path,
    arguments: Mapping[str, Any],
    folder: Path,
    options: Options,
    run: Execute = execute,
    play: Play | None = None,
) -> Simulated | None:
    """Compile the pipeline, run the job (by `play`, else in this process), and fail unless every leaf ended as the engine says.

    Their outputs must be the same. Returns what ran, None if the compiler refused.
    """
    pipeline = load_pipeline(path)
    parameters = {name: value for name, value in arguments.items() if name in pipeline.root.input_parameters}
    artifacts = {
        name: (argument_artifact(name, str(value), pipeline),)
        for name, value in arguments.items()
        if name in pipeline.root.input_artifacts and value is not None
    }
    given = Inputs({name: value for name, value in parameters.items() if value is not None}, artifacts)
    try:
        compiled = compile_pipeline(pipeline, given, SETTINGS, accept=GAPS, success_word=options.success_word)
    except Unsupported as error:
        assert any(reason in error.message for reason in REFUSED), error.message
        return None
    ran = play(compiled, folder) if play else simulate(compiled, folder, _without_image(run))
    wrong = [
        line for node, leaf in compiled.report.nodes.items() if leaf for line in differences(seen, ran, node, leaf)
    ]
    assert not wrong, "\n".join(wrong)
    failed = seen.states[""] == "FAILED"
    assert ("Failed" in ran.states.values()) == failed, ran.states
    return ran


def _without_image(run: Execute) -> Execute:
    """The tests' image `missing` cannot be run; its command says so."""

    def go(command: Any, env: Any) -> Failure | None:
        return Failure(FailureClass.IMAGE, "missing") if command and command[0] == "missing" else run(command, env)

    return go


def differences(seen: Agreed, ran: Simulated, node: str, leaf: str) -> list[str]:
    """Return how a node's end differs from what the engine says of its leaf."""
    theirs = seen.tasks.get(leaf)
    if ran.states[node] == "NotRun":
        return [f"{leaf}: did not run, the engine says {theirs['state']}"] if theirs and _ran(theirs["state"]) else []
    meta = ran.metas[node]
    if theirs is None:  # the engine has no task there: a group around it was skipped, or a slot has no item
        return (
            []
            if not _ran(meta["state"]) or meta["decided"]
            else [f"{leaf}: {meta['state']}, the engine has no such task"]
        )
    if meta["decided"] and meta["decided"] != leaf:
        return (
            [f"{leaf}: was decided at {meta['decided']}, the engine says {theirs['state']}"]
            if _ran(theirs["state"])
            else []
        )
    ours = {"state": meta["state"], "outputs": outputs_of(meta, ran)}
    expected = {"state": theirs["state"], "outputs": theirs["outputs"]}
    if json.dumps(ours, sort_keys=True) != json.dumps(expected, sort_keys=True):
        return [f"{leaf}: the job has {ours}, the engine {expected}"]
    return []


def _ran(state: str) -> bool:
    return state in ("SUCCEEDED", "FAILED")


def outputs_of(meta: dict[str, Any], ran: Simulated) -> dict[str, Any]:
    """Return the outputs in a meta, artifacts by their content."""
    artifacts = {
        name: [
            {
                "type": item["type"][0],
                "content": content(ran.content(item["digest"]) if item["digest"] else None),
                "uri": "" if item["digest"] else item["uri"],
                "metadata": item["metadata"],
            }
            for item in items
        ]
        for name, items in meta["outputs"]["artifacts"].items()
    }
    return {"parameters": meta["outputs"]["parameters"], "artifacts": artifacts}

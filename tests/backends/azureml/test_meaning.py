"""What the metas of a job's nodes mean, for a whole run: the tasks that a local run would have on record, with their states."""

from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from intermodal.backends.azureml.compile import compile_pipeline
from intermodal.backends.azureml.launcher.known import Meta
from intermodal.backends.azureml.meaning import Meaning
from intermodal.backends.azureml.report import GAPS
from intermodal.engine.artifacts import Inputs
from intermodal.engine.options import Options
from intermodal.engine.states import State
from intermodal.spec.load import load_pipeline
from tests.backends.azureml.conftest import SETTINGS
from tests.backends.azureml.simulate import simulate
from tests.conftest import Run
from tests.engine.steps import join, make, read, say, shell


@dsl.container_component
def numbers(out: dsl.OutputPath(list)):
    return dsl.ContainerSpec("shell", ["sh", "-c", 'mkdir -p "$(dirname "$0")"; printf "[1,2]" > "$0"'], [out])


@dsl.pipeline(name="inner")
def inner(text: str) -> str:
    return say(text=text).outputs["out"]


@dsl.pipeline(name="branches")
def branches(count: int = 2, items: list = ["a", "b"]) -> str:  # noqa: B006
    made = make(text="x")
    with dsl.ParallelFor(items, parallelism=1) as item:
        say(text=item)
        inner(text=item)
    with dsl.If(count == 3):
        three = say(text="three")
        with dsl.If(count == 4):
            say(text="four")
    with dsl.Else():
        other = say(text="other")
    either = dsl.OneOf(three.outputs["out"], other.outputs["out"])
    return join(left=read(data=made.outputs["data"]).outputs["out"], right=either).outputs["out"]


@dsl.pipeline(name="failing")
def failing() -> str:
    broken = shell(script="exit 3")
    after = say(text="after").after(broken)
    with dsl.ParallelFor(["a", "b"]) as item:
        say(text=item).after(after)
    return say(text="fine").outputs["out"]


@dsl.pipeline(name="slots")
def slots():
    made = numbers()
    with dsl.ParallelFor(made.outputs["out"]) as item:
        say(text=item)


@dsl.container_component
def lines(texts: list, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec("shell", ["sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$0" > "$1"'], [texts, out])


@dsl.pipeline(name="idle")
def idle(items: list = ["a", "b"], helpers: list = []) -> str:  # noqa: B006
    """A loop over nothing inside a loop whose results are collected: whoever collects knows only the structure of both."""
    with dsl.ParallelFor(items) as item:
        with dsl.ParallelFor(helpers) as helper:
            helped = say(text=helper)
        said = say(text=item).after(helped)
    return lines(texts=dsl.Collected(said.outputs["out"])).outputs["out"]


@pytest.mark.parametrize("pipeline", [branches, failing, slots, idle], ids=lambda item: item.name)
def test_a_job_leaves_the_tasks_on_record_that_a_local_run_leaves(pipeline: Any, tmp_path: Path, run: Run):
    local = run(pipeline, options=Options(cache=False, grace=1.0))
    path = tmp_path / "compiled.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    loaded = load_pipeline(path)
    compiled = compile_pipeline(loaded, Inputs(), SETTINGS, accept=GAPS)
    seen = simulate(compiled, tmp_path / "job")
    nodes = compiled.report.nodes
    metas = {nodes[node]: Meta.from_json(meta) for node, meta in seen.metas.items() if nodes[node]}
    place = {
        "job": "job",
        "nodes": dict(nodes),
        "imported": dict(compiled.imported),
        "bounds": {loop.path: loop.bound for loop in compiled.flat.loops if loop.bound is not None},
        "success": "COMPLETE",
    }
    job = State.FAILED if "Failed" in seen.states.values() else State.SUCCEEDED
    outcome = Meaning(loaded, Inputs(), place).outcome(metas, job)
    found = {path: meta.state for path, meta in metas.items() if meta.decided in ("", path) and not meta.absent}
    found |= {group.path: group.state for group in outcome.groups}
    tasks = local.tasks()
    assert {path: state.value for path, state in found.items()} == {path: row["state"] for path, row in tasks.items()}
    assert outcome.state is local.result.state
    assert outcome.outputs.parameters == local.result.outputs.parameters
    reasons = {group.path: group.reason for group in outcome.groups if group.state is State.SKIPPED}
    reasons |= {path: meta.reason for path, meta in metas.items() if path in found and meta.state is State.SKIPPED}
    assert reasons == {path: row["reason"] or "" for path, row in tasks.items() if row["state"] == "SKIPPED"}

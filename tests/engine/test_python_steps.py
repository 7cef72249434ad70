"""Lightweight Python components as the SDK compiles them, on real processes and without their pip."""

from pathlib import Path
from typing import List, NamedTuple  # noqa: UP035 - KFP reads this spelling

import pytest
from kfp import dsl

from intermodal.engine.failure import FailureClass
from tests.conftest import Run


@dsl.component
def add(a: int, b: int) -> int:
    return a + b


@dsl.component
def total(values: List[int]) -> str:  # noqa: UP006
    return f"{values!r} {sum(values)}"


@dsl.component
def write(text: str, data: dsl.Output[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]):
    with open(data.path, "w") as stream:  # noqa: PTH123
        stream.write(text)
    data.metadata["length"] = len(text)
    metrics.log_metric("length", len(text))


@dsl.component
def read(data: dsl.Input[dsl.Dataset]) -> NamedTuple("Outputs", [("text", str), ("length", int)]):
    from typing import NamedTuple

    Outputs = NamedTuple("Outputs", [("text", str), ("length", int)])  # noqa: UP014
    with open(data.path) as stream:  # noqa: PTH123
        return Outputs(stream.read(), data.metadata["length"])


@dsl.component
def join(items: dsl.Input[List[dsl.Dataset]]) -> str:  # noqa: UP006
    return "+".join(open(item.path).read() for item in items)  # noqa: PTH123


@dsl.component
def fail():
    raise RuntimeError("on purpose")


def test_values_keep_their_types(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(values: List[int] = [1, 2]) -> str:  # noqa: B006, UP006
        first = add(a=1, b=2)
        with dsl.ParallelFor([4, 5]) as item:
            add(a=item, b=first.output)
        return total(values=values).output

    ran = run(pipeline)
    assert ran.result.outputs.parameters["Output"] == "[1, 2] 3", ran.recorder.failures


def test_artifacts_their_metadata_and_metrics(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(text: str) -> NamedTuple("O", [("text", str), ("length", int), ("metrics", dsl.Metrics)]):
        written = write(text=text)
        seen = read(data=written.outputs["data"])
        outputs = NamedTuple("O", [("text", str), ("length", int), ("metrics", dsl.Metrics)])  # noqa: UP014
        return outputs(text=seen.outputs["text"], length=seen.outputs["length"], metrics=written.outputs["metrics"])

    ran = run(pipeline, text="hello {{$}}")
    assert ran.result.outputs.parameters == {"text": "hello {{$}}", "length": 11}, ran.recorder.failures
    assert ran.result.outputs.artifacts["metrics"][0].metadata == {"length": 11}


def test_collected_artifacts_arrive_as_a_list(run: Run):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        with dsl.ParallelFor(["a", "b", "c"]) as item:
            written = write(text=item)
        return join(items=dsl.Collected(written.outputs["data"])).output

    assert run(pipeline).result.outputs.parameters["Output"] == "a+b+c"


def test_a_raising_function_is_a_failure_of_its_own_code(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        fail()

    ran = run(pipeline)
    assert ran.recorder.failures["fail"].kind is FailureClass.USER_CODE
    log = next((ran.state / "runs").rglob("log.txt"))
    assert "RuntimeError: on purpose" in log.read_text()


def test_what_the_task_puts_on_pythonpath_stays_there(run: Run, tmp_path: Path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "of_the_task.py").write_text("VALUE = 'mine'")

    @dsl.component
    def look() -> str:
        import of_the_task

        return of_the_task.VALUE

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        return look().set_env_variable("PYTHONPATH", str(tmp_path / "own")).output

    ran = run(pipeline)
    assert ran.result.outputs.parameters["Output"] == "mine", ran.recorder.failures


def test_a_component_that_brings_its_own_runtime_gets_none(run: Run):
    @dsl.component(install_kfp_package=False)
    def bare():
        pass

    @dsl.pipeline(name="p")
    def pipeline():
        bare()

    [launch] = run(pipeline).backend.launches
    assert launch.mounts == ()
    assert launch.command[:2] == ("sh", "-ec")


@pytest.mark.parametrize("value", ["COMPLETE", "FAILED"])
def test_the_final_status_says_what_the_backend_says(run: Run, value: str):
    @dsl.component
    def note(status: dsl.PipelineTaskFinalStatus) -> str:
        return f"{status.state} {status.pipeline_task_name}"

    @dsl.component
    def maybe(broken: bool):
        if broken:
            raise RuntimeError("broken")

    @dsl.pipeline(name="p")
    def pipeline(broken: bool):
        with dsl.ExitHandler(note()):
            maybe(broken=broken)

    ran = run(pipeline, broken=value == "FAILED")
    import json

    outputs = json.loads(ran.tasks()["note"]["outputs"])
    assert outputs["parameters"]["Output"] == f"{value} exit-handler-1"


@dsl.component
def elsewhere(folder: str, data: dsl.Output[dsl.Dataset]):
    import os

    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    data.set_path(folder + "/mine")
    assert data.path == folder + "/mine"
    with open(data.path, "w") as stream:  # noqa: PTH123
        stream.write("set by the step")
    data.metadata["length"] = 15


def test_a_step_may_choose_the_path_of_an_artifact(run: Run, tmp_path: Path):
    @dsl.pipeline(name="p")
    def pipeline(folder: str) -> str:
        return read(data=elsewhere(folder=folder).outputs["data"]).outputs["text"]

    ran = run(pipeline, folder=str(tmp_path / "scratch"))
    assert ran.result.outputs.parameters["Output"] == "set by the step"

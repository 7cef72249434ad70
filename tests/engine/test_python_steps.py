"""Lightweight Python components as the SDK compiles them, on real processes and without their pip."""

from typing import List, NamedTuple  # noqa: UP035 - KFP reads this spelling

import pytest
from kfp import dsl

from intermodal.engine.failure import FailureClass
from intermodal.engine.options import Options
from intermodal.engine.states import State
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


@dsl.component(packages_to_install=["toolz==1.0.0"])
def heavy() -> str:
    import toolz

    return f"{toolz.__version__} {toolz.pipe(1, str)}"


def test_packages_to_install_come_from_a_folder_made_once(run: Run):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        return heavy().output

    ran = run(pipeline, options=Options(cache=False))
    assert ran.result.outputs.parameters["Output"] == "1.0.0 1", ran.recorder.failures
    made = sorted(path for path in (ran.state / "python").iterdir() if path.name.startswith("packages-"))
    assert len(made) == 1 and not list((ran.state / "python").glob(".*"))
    before = made[0].stat().st_mtime_ns
    assert run(pipeline, options=Options(cache=False)).result.state is State.SUCCEEDED
    assert made[0].stat().st_mtime_ns == before


def test_a_package_that_does_not_exist_is_named(run: Run):
    @dsl.component(packages_to_install=["no-such-package-of-intermodal==1.0"])
    def impossible():
        pass

    @dsl.pipeline(name="p")
    def pipeline():
        impossible()

    failure = run(pipeline).recorder.failures["impossible"]
    assert "no-such-package-of-intermodal" in failure.message


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

"""What a pipeline means: values, loops, branches, failures, on real processes. Expectations are written by hand."""

import json
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import dsl

from intermodal.engine.failure import FailureClass
from intermodal.engine.options import Options
from intermodal.engine.states import State
from intermodal.errors import BadInput
from tests.conftest import Run
from tests.engine.steps import join, make, number, read, say, shell, show_list
from tests.support.host import HostBackend


def output(ran, name: str = "Output"):
    return ran.result.outputs.parameters[name]


def test_a_value_passes_unchanged_whatever_it_holds(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(text: str) -> str:
        first = say(text=text)
        return join(left=first.outputs["out"], right="x").outputs["out"]

    nasty = "it's $(id) `id` {{$.inputs.parameters['text']}} {{$}} \"q\" \\ é\n${HOME};rm -rf /"
    assert output(run(pipeline, text=nasty)) == nasty + "|x"


def test_integers_stay_integers_at_any_depth(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(values: list = [1, {"a": [2, 2.5]}]) -> str:  # noqa: B006
        return show_list(values=values).outputs["out"]

    assert json.loads(output(run(pipeline))) == [1, {"a": [2, 2.5]}]
    assert output(run(pipeline)) == '[1,{"a":[2,2.5]}]'


def test_a_loop_keeps_values_from_outside_the_item(run: Run):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        upstream = say(text="UPSTREAM")
        with dsl.ParallelFor(["x", "y"]) as item:
            joined = join(left=upstream.outputs["out"], right=item)
        return show_list(values=dsl.Collected(joined.outputs["out"])).outputs["out"]

    assert json.loads(output(run(pipeline))) == ["UPSTREAM|x", "UPSTREAM|y"]


def test_nested_loops_collect_nested_lists_and_an_empty_loop_an_empty_one(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(outer: list, inner: list) -> str:
        with dsl.ParallelFor(outer) as a, dsl.ParallelFor(inner) as b:
            joined = join(left=a, right=b)
        return show_list(values=dsl.Collected(joined.outputs["out"])).outputs["out"]

    ran = run(pipeline, outer=["1", "2"], inner=["x", "y"])
    assert json.loads(output(ran)) == [["1|x", "1|y"], ["2|x", "2|y"]]
    assert json.loads(output(run(pipeline, outer=[], inner=["x"]))) == []


def test_artifacts_are_passed_by_content_and_are_read_only_copies(run: Run):
    class Both(NamedTuple):
        text: str
        data: dsl.Dataset

    @dsl.pipeline(name="p")
    def pipeline() -> Both:
        made = make(text="hello")
        return Both(text=read(data=made.outputs["data"]).outputs["out"], data=made.outputs["data"])

    ran = run(pipeline)
    assert output(ran, "text") == "hello"
    published = ran.result.files["data"]
    assert (published / "file").read_text() == "hello"
    assert (published / "file").stat().st_mode & 0o222 == 0


def test_an_artifact_argument_is_copied_and_the_users_folder_left_alone(run: Run, tmp_path: Path):
    @dsl.pipeline(name="p")
    def pipeline(data: dsl.Input[dsl.Dataset]) -> str:
        return read(data=data).outputs["out"]

    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file").write_text("own data")
    mode = (folder / "file").stat().st_mode
    assert output(run(pipeline, data=str(folder))) == "own data"
    assert (folder / "file").stat().st_mode == mode
    (folder / "file").write_text("changed")
    assert output(run(pipeline, data=str(folder))) == "changed"
    with pytest.raises(BadInput, match="nowhere"):
        run(pipeline, data=str(tmp_path / "nowhere"))


def test_a_failing_step_fails_the_run_and_what_needs_it_is_skipped_while_the_rest_goes_on(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        bad = shell(script="echo no >&2; exit 7").set_display_name("bad")
        join(left=bad.outputs["out"], right="x")
        say(text="independent")

    ran = run(pipeline)
    assert ran.result.state is State.FAILED
    assert ran.states == {"shell": "FAILED", "join": "SKIPPED", "say": "SUCCEEDED"}
    failure = ran.recorder.failures["shell"]
    assert (failure.kind, failure.exit_code) == (FailureClass.USER_CODE, 7)
    assert ran.tasks()["shell"]["exit_code"] == 7


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("true", FailureClass.OUTPUT_MISSING),
        ('ln -s /etc/passwd "$1"', FailureClass.OUTPUT_INVALID),
        ('mkfifo "$1"', FailureClass.OUTPUT_INVALID),
        ('mkdir "$1"', FailureClass.OUTPUT_INVALID),
        ('printf "\\377" > "$1"', FailureClass.OUTPUT_INVALID),
        ("kill -9 $$", FailureClass.KILLED),
    ],
)
def test_exit_zero_is_not_enough(run: Run, script: str, kind: FailureClass):
    @dsl.pipeline(name="p")
    def pipeline(script: str):
        shell(script=script.replace("$2", "$1") if isinstance(script, str) else script)

    ran = run(pipeline, script=script.replace("$2", "$1"))
    assert ran.result.state is State.FAILED
    assert ran.recorder.failures["shell"].kind is kind


def test_an_output_of_the_wrong_type_is_a_failure(run: Run):
    @dsl.container_component
    def wrong(out: dsl.OutputPath(int)):
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf 1.5 > "$1"', "sh"], args=[out])

    @dsl.pipeline(name="p")
    def pipeline():
        wrong()

    assert run(pipeline).recorder.failures["wrong"].kind is FailureClass.OUTPUT_INVALID


def test_a_missing_output_artifact_is_a_failure(run: Run):
    @dsl.container_component
    def lazy(model: dsl.Output[dsl.Model]):
        return dsl.ContainerSpec(image="shell", command=["true"], args=[model.path])

    @dsl.pipeline(name="p")
    def pipeline():
        lazy()

    assert run(pipeline).recorder.failures["lazy"].kind is FailureClass.OUTPUT_MISSING


def test_metrics_need_no_file_but_must_be_reported(run: Run):
    @dsl.container_component
    def measure(report: str, metrics: dsl.Output[dsl.Metrics]):
        return dsl.ContainerSpec(
            image="shell",
            command=["sh", "-c", 'test -z "$1" || printf %s "$1" > "$2"', "sh"],
            args=[report, "{{$.outputs.output_file}}"],
        )

    @dsl.pipeline(name="p")
    def pipeline(report: str) -> dsl.Metrics:
        return measure(report=report).outputs["metrics"]

    reported = json.dumps({"artifacts": {"metrics": {"artifacts": [{"name": "metrics", "metadata": {"f1": 0.5}}]}}})
    ran = run(pipeline, report=reported)
    assert ran.result.outputs.artifacts["Output"][0].metadata == {"f1": 0.5}
    assert run(pipeline, report="").recorder.failures["measure"].kind is FailureClass.OUTPUT_MISSING


def test_branches_run_by_value_and_a_value_cannot_rewrite_the_condition(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(text: str) -> str:
        first = say(text=text)
        with dsl.If(first.outputs["out"] == "secret"):
            yes = say(text="taken")
        with dsl.Else():
            no = say(text="other")
        return dsl.OneOf(yes.outputs["out"], no.outputs["out"])

    assert output(run(pipeline, text="secret")) == "taken"
    assert output(run(pipeline, text="x' || true || 'x")) == "other"
    assert output(run(pipeline, text="it's\nnot")) == "other"


def test_exit_tasks_run_after_a_failure_and_know_of_it(run: Run):
    @dsl.container_component
    def last(status: dsl.PipelineTaskFinalStatus, out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="shell", command=["true"], args=[out])

    @dsl.container_component
    def note(out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf done > "$1"', "sh"], args=[out])

    @dsl.pipeline(name="p")
    def pipeline():
        cleanup = note()
        with dsl.ExitHandler(cleanup):
            shell(script="exit 3")

    ran = run(pipeline)
    assert ran.result.state is State.FAILED
    assert ran.states["note"] == "SUCCEEDED"


def test_a_retry_gets_a_fresh_folder_and_the_last_attempt_counts(run: Run, tmp_path: Path):
    counter = tmp_path / "count"

    @dsl.pipeline(name="p")
    def pipeline(counter: str) -> str:
        script = f'test ! -e "$1" || exit 9; printf x >> {counter}; printf %s "$(cat {counter})" > "$1"; test $(wc -c < {counter}) -ge 3'
        task = shell(script=script)
        task.set_retry(3, backoff_duration="0s")
        return task.outputs["out"]

    ran = run(pipeline, counter=str(counter))
    assert output(ran) == "xxx"
    assert ran.result.state is State.SUCCEEDED


def test_independent_steps_run_together_within_the_slots(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        with dsl.ParallelFor([1, 2, 3, 4, 5, 6], parallelism=3):
            shell(script='sleep 0.4; printf x > "$1"')

    backend = HostBackend()
    started = time.monotonic()
    run(pipeline, backend=backend)
    together = time.monotonic() - started
    assert backend.most == 3
    serial = HostBackend()
    started = time.monotonic()
    run(pipeline, backend=serial, options=Options(cache=False, slots=1))
    assert serial.most == 1
    assert together < (time.monotonic() - started) * 0.7


def test_a_request_that_can_never_fit_is_refused_by_name(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        say(text="x").set_cpu_request("1000")

    with pytest.raises(BadInput, match=r"say.*1000 CPUs"):
        run(pipeline)


def test_a_request_given_as_an_argument_is_refused_before_anything_runs(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(memory: str = "1Gi"):
        say(text="y").after(say(text="x")).set_memory_request(memory)

    assert run(pipeline).result.state is State.SUCCEEDED
    with pytest.raises(BadInput, match="900000"):
        run(pipeline, memory="900000Gi")


def test_a_request_that_an_output_gives_is_refused_when_it_is_known(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        amount = say(text="1000")
        say(text="y").set_cpu_request(amount.output)

    ran = run(pipeline)
    assert "1000 CPUs" in ran.recorder.failures["say-2"].message


def test_the_cpu_limit_sets_the_threads_of_numeric_libraries(run: Run):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        return shell(script='printf %s "$OMP_NUM_THREADS" > "$1"').set_cpu_limit("1").outputs["out"]

    assert output(run(pipeline)) == "1"


def test_a_missing_image_is_known_before_anything_starts(run: Run):
    @dsl.container_component
    def gone():
        return dsl.ContainerSpec(image="missing", command=["true"])

    @dsl.pipeline(name="p")
    def pipeline():
        say(text="x")
        gone()

    backend = HostBackend()
    with pytest.raises(Exception, match="missing"):
        run(pipeline, backend=backend)
    assert backend.launches == []


def test_wrong_arguments_are_named_before_anything_starts(run: Run):
    @dsl.pipeline(name="p")
    def pipeline(count: int):
        number(value=count)

    with pytest.raises(BadInput, match="count"):
        run(pipeline, count="three")
    with pytest.raises(BadInput, match="cuont") as error:
        run(pipeline, cuont=3)
    assert error.value.hint == "did you mean 'count'?"


def test_an_optional_artifact_may_be_left_out_even_inside_a_loop(run: Run, tmp_path: Path):
    @dsl.container_component
    def maybe(out: dsl.OutputPath(str), data: dsl.Input[dsl.Dataset] = None):
        given = dsl.IfPresentPlaceholder(input_name="data", then=["given"], else_=["absent"])
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$2" > "$1"', "sh"], args=[out, given])

    @dsl.pipeline(name="p")
    def pipeline(data: dsl.Input[dsl.Dataset] = None) -> str:
        with dsl.ParallelFor([1]):
            task = maybe(data=data)
        return show_list(values=dsl.Collected(task.outputs["out"])).outputs["out"]

    assert output(run(pipeline)) == '["absent"]'
    (tmp_path / "file").write_text("x")
    assert output(run(pipeline, data=str(tmp_path / "file"))) == '["given"]'

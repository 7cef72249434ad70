"""Pipelines from Python, on real processes: what a run gives, how it fails, how it is stopped."""

import asyncio
import io
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import compiler, dsl

import intermodal
from intermodal import BadInput, RunFailed
from intermodal.engine.failure import FailureClass
from intermodal.engine.states import State
from intermodal.testing import HostBackend, NullBackend
from tests.engine.steps import join, make, number, read, say, shell, show_list

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every run is on the host backend, with a state folder of the test's own, as its environment says."""
    monkeypatch.setenv("INTERMODAL_BACKEND", "host")
    monkeypatch.setenv("INTERMODAL_STATE", str(tmp_path / "state"))


@dsl.container_component
def report(text: str, model: dsl.Output[dsl.Model], page: dsl.Output[dsl.Markdown]):
    script = """
    printf %s "$0" > "$1"; printf '# %s' "$0" > "$2"
    printf '{"artifacts": {"model": {"artifacts": [{"name": "model", "metadata": {"f1": 0.5, "n": 3}}]}}}' > "$3"
    """
    return dsl.ContainerSpec(
        image="x", command=["sh", "-c", script], args=[text, model.path, page.path, "{{$.outputs.output_file}}"]
    )


@dsl.container_component
def look(model: dsl.Input[dsl.Model], out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(
        image="x",
        command=["sh", "-c", 'printf "%s %s" "$(cat "$0")" "$1" > "$2"'],
        args=[model.path, model.metadata["f1"], out],
    )


class Reported(NamedTuple):
    model: dsl.Model
    page: dsl.Markdown
    count: int


@dsl.pipeline(name="reporting")
def reporting(text: str = "hello", count: int = 3) -> Reported:
    made = report(text=text)
    return Reported(made.outputs["model"], made.outputs["page"], number(value=count).output)


@dsl.pipeline(name="echo")
def echo(text: str = "hello") -> str:
    return say(text=text).output


@dsl.pipeline(name="script")
def script(script: str) -> str:
    return shell(script=script).output


class TestWhatARunGives:
    def test_outputs_have_their_types(self):
        run = intermodal.run(reporting, {"text": "ü", "count": 7})
        assert run.ok and run.state is State.SUCCEEDED and run.pipeline == "reporting" and run.backend == "host"
        assert run.arguments == {"text": "ü", "count": 7}
        assert set(run.outputs) == {"model", "page", "count"}
        assert run.outputs["count"] == 7 and type(run.outputs["count"]) is int
        model, page = run.outputs["model"], run.outputs["page"]
        assert model.path.read_text() == "ü" and Path(model).read_text() == "ü"
        assert model.uri == model.path.as_uri()
        assert (model.name, model.type) == ("model", "system.Model")
        assert model.metadata == {"f1": 0.5, "n": 3} and type(model.metadata["n"]) is int
        assert re.fullmatch("sha256:[0-9a-f]{64}", model.digest)
        assert page.path == run.folder / "outputs" / "page.md" and page.path.read_text() == "# ü"

    def test_structures_keep_their_integers(self):
        @dsl.pipeline(name="p")
        def pipeline(values: list) -> str:
            return show_list(values=values).output

        run = intermodal.run(pipeline, {"values": [1, {"a": [2, 2.5, None]}]})
        assert run.tasks["show-list"].inputs["values"] == [1, {"a": [2, 2.5, None]}]
        assert run.output == '[1,{"a":[2,2.5,null]}]'

    def test_collected_artifacts_are_a_list_even_of_one(self):
        @dsl.pipeline(name="p")
        def pipeline(texts: list) -> list[dsl.Dataset]:
            with dsl.ParallelFor(texts) as text:
                made = make(text=text)
            return dsl.Collected(made.outputs["data"])

        for texts in (["a", "b"], ["c"]):
            run = intermodal.run(pipeline, {"texts": texts})
            assert [(item.path / "file").read_text() for item in run.output] == texts
            (loop,) = (task for task in run.tasks.values() if task.name.startswith("for-loop"))
            assert [artifact.path for artifact in next(iter(loop.outputs.values()))]
            assert [task.inputs for task in run.find("make")] == [{"text": text} for text in texts]
            assert [task.outputs["data"].type for task in run.find("make")] == ["system.Dataset"] * len(texts)

    def test_the_only_output_needs_no_name(self):
        assert intermodal.run(echo).output == "hello"
        with pytest.raises(ValueError, match="3 outputs: count, model, page"):
            _ = intermodal.run(reporting).output

    def test_tasks_say_what_they_did(self):
        @dsl.pipeline(name="p")
        def pipeline():
            first = shell(script='echo out; echo err >&2; printf done > "$1"').set_display_name("first")
            bad = shell(script="echo bad; exit 7").after(first).set_retry(1, backoff_duration="0s")
            join(left=bad.output, right="x")

        run = intermodal.run(pipeline, raise_on_error=False)
        assert not run.ok and run.state is State.FAILED
        assert {path: task.state.value for path, task in run.tasks.items()} == {
            "shell": "SUCCEEDED",
            "shell-2": "FAILED",
            "join": "SKIPPED",
        }
        first, bad, joined = run.tasks.values()
        assert first.log == "out\nerr\n" and first.outputs == {"out": "done"} and first.failure is None
        assert first.component == "shell" and first.name == "shell" and 0 < first.seconds < 60
        assert bad.failure.kind is FailureClass.USER_CODE and bad.failure.exit_code == 7
        assert [attempt.exit_code for attempt in bad.attempts] == [7, 7] and bad.log == "bad\n"
        assert joined.attempts == [] and joined.log == "" and joined.outputs == {}
        assert run.failed == [bad]

    def test_what_was_cached_says_from_where(self):
        first, second = intermodal.run(echo), intermodal.run(echo)
        assert second.ok and second.state is State.CACHED
        assert second.tasks["say"].cached_from == f"{first.id}/say"
        assert second.output == "hello"

    def test_an_artifact_is_an_argument_of_another_run_with_its_metadata(self):
        @dsl.pipeline(name="looking")
        def looking(model: dsl.Input[dsl.Model]) -> str:
            return look(model=model).output

        model = intermodal.run(reporting, {"text": "weights"}).outputs["model"]
        assert intermodal.run(looking, {"model": model}).output == "weights 0.5"
        assert intermodal.run(looking, {"model": model}).state is State.CACHED

    def test_bytes_that_are_no_text_are_shown(self):
        run = intermodal.run(script, {"script": "printf 'a\\377b'; printf x > \"$1\""})
        assert run.tasks["shell"].log == "a\\xffb"

    def test_it_shows_itself(self):
        run = intermodal.run(script, {"script": "exit 3"}, raise_on_error=False)
        assert str(run) == f"run {run.id} failed in {run.seconds:.1f} s"
        page = intermodal.run(echo, {"text": "<b>&"})._repr_html_()
        assert "&#x27;&lt;b&gt;&amp;&#x27;" in page and "<b>&" not in page and "succeeded" in page
        from rich.console import Console

        console = Console(width=100, record=True, file=io.StringIO())
        console.print(run)
        assert "user_code: exit code 3" in console.export_text()

    def test_it_can_be_pickled(self):
        run = intermodal.run(reporting)
        assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301
        error = pickle.loads(pickle.dumps(RunFailed(run)))  # noqa: S301
        assert error.run == run

    def test_the_record_gives_the_same_run(self):
        run = intermodal.run(reporting)
        assert intermodal.get_run() == intermodal.get_run(run.id) == intermodal.get_run(run.id[-4:]) == run
        with pytest.raises(BadInput, match="no run 'other'"):
            intermodal.get_run("other")


class TestFailure:
    def test_it_names_the_task_the_class_and_the_end_of_the_log(self):
        lines = "for n in $(seq 60); do echo line $n; done; printf '\\033[31mred\\n'; exit 7"
        with pytest.raises(RunFailed) as caught:
            intermodal.run(script, {"script": lines})
        error = caught.value
        first, head, *tail = str(error).splitlines()
        assert first == error.message == f"run {error.run.id} failed: shell: user_code: exit code 7"
        assert head == f"--- log of shell, its last lines ({error.run.tasks['shell'].attempts[0].log_path})"
        assert tail == [*(f"line {n}" for n in range(42, 61)), " [31mred"]

    def test_nothing_starts_with_a_wrong_argument(self, tmp_path):
        with pytest.raises(BadInput, match="txet") as caught:
            intermodal.run(echo, {"txet": "x"})
        assert caught.value.hint == "did you mean 'text'?"
        with pytest.raises(BadInput, match="argument count"):
            intermodal.run(reporting, {"count": "7"})
        with pytest.raises(BadInput, match="no runs"):
            intermodal.get_run()

    def test_resume_goes_on_where_a_run_failed(self, tmp_path):
        @dsl.pipeline(name="p")
        def pipeline(marker: str) -> str:
            first = shell(script='printf x > "$1"')
            second = shell(script=f'test -e {marker} || exit 9; printf fine > "$1"').after(first)
            return second.output

        marker = tmp_path / "marker"
        with pytest.raises(RunFailed) as caught:
            intermodal.run(pipeline, {"marker": str(marker)})
        with pytest.raises(RunFailed):
            intermodal.resume(caught.value.run.id)
        marker.touch()
        run = intermodal.resume()
        assert run.id == caught.value.run.id and run.ok and run.output == "fine"
        assert len(run.tasks["shell"].attempts) == 1 and len(run.tasks["shell-2"].attempts) == 3
        assert intermodal.resume() == run


class TestPipelines:
    def test_a_component_alone(self):
        run = intermodal.run(join, {"left": "a", "right": "b"})
        assert run.ok and next(iter(run.tasks.values())).outputs == {"out": "a|b"}

    def test_a_lightweight_component_needs_no_image(self):
        @dsl.component
        def add(a: int, b: int = 2) -> int:
            return a + b

        assert next(iter(intermodal.run(add, {"a": 5}).tasks.values())).outputs == {"Output": 7}

    def test_compiled_yaml_by_path_and_loaded(self, tmp_path):
        path = tmp_path / "echo.yaml"
        compiler.Compiler().compile(echo, str(path))
        assert intermodal.run(str(path), {"text": "a"}).output == "a"
        assert intermodal.run(path, {"text": "b"}).output == "b"
        assert intermodal.run(intermodal.load_pipeline(path), {"text": "c"}).output == "c"

    def test_a_python_file_its_configure_and_its_project(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text("[tool.intermodal]\nnetwrok = {}\n")
        path = tmp_path / "mine.py"
        path.write_text(
            "from kfp import dsl\nfrom tests.engine.steps import say\n"
            "def configure(values): return {'text': values['words'][0] * values['times']}\n"
            "@dsl.pipeline(name='mine')\ndef mine(text: str) -> str:\n    return say(text=text).output\n"
            "@dsl.pipeline(name='other')\ndef other(text: str) -> str:\n    return say(text=f'{text}!').output\n"
        )
        values = tmp_path / "values.yaml"
        values.write_text("words: [a, b]\ntimes: 2\n")
        with pytest.raises(BadInput, match="netwrok"):
            intermodal.run(path, name="mine", config=values)
        (tmp_path / "pyproject.toml").write_text("")
        with pytest.raises(BadInput, match="several pipelines"):
            intermodal.run(path)
        assert intermodal.run(path, {"times": 3}, name="mine", config=values).output == "aaa"
        assert intermodal.run(str(path), {"words": ["x"], "times": 1}, name="other").output == "x!"

    def test_text_in_a_values_file_may_stand_for_a_number(self, tmp_path):
        values = tmp_path / "values.yaml"
        values.write_text("count: '12'\n")
        assert intermodal.run(reporting, config=values).outputs["count"] == 12

    def test_what_is_no_pipeline(self):
        def plain():
            pass

        with pytest.raises(BadInput, match="plain: is no pipeline") as caught:
            intermodal.run(plain)
        assert caught.value.hint == "decorate it with @dsl.pipeline"
        with pytest.raises(BadInput, match="3: is no pipeline"):
            intermodal.run(3)
        with pytest.raises(BadInput, match=r"nowhere\.yaml: no such file"):
            intermodal.run("nowhere.yaml")


class TestOptions:
    def test_the_cache_may_be_left_out_for_all_or_some(self):
        @dsl.pipeline(name="p")
        def pipeline():
            say(text="a")
            number(value=1)

        def states(**options):
            return [task.state.value for task in intermodal.run(pipeline, **options).tasks.values()]

        states()
        assert states() == ["CACHED", "CACHED"]
        assert states(no_cache=True) == ["SUCCEEDED", "SUCCEEDED"]
        assert sorted(states(no_cache=["say"])) == sorted(states(no_cache="number")) == ["CACHED", "SUCCEEDED"]
        with pytest.raises(BadInput, match="no task 'sya'"):
            states(no_cache="sya")

    @pytest.mark.parametrize("limit", [1, "1s", timedelta(seconds=1)])
    def test_a_run_may_be_limited(self, limit):
        with pytest.raises(RunFailed, match="timeout: the run took longer than 1 s"):
            intermodal.run(script, {"script": "sleep 60"}, timeout=limit)

    def test_options_that_mean_nothing(self):
        for options in ({"timeout": "soon"}, {"timeout": 0}, {"max_parallel": 0}, {"settings": {"netwrok": {}}}):
            with pytest.raises(BadInput):
                intermodal.run(echo, **options)
        with pytest.raises(BadInput, match="there is no backend 'dokcer'"):
            intermodal.run(echo, backend="dokcer")
        with pytest.raises(TypeError, match="no_cahce"):
            intermodal.run(echo, no_cahce=True)

    def test_settings_are_laid_over_the_projects(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text("[tool.intermodal.timeout]\nshell = 60\nother = 1\n")
        with pytest.raises(RunFailed, match="timeout"):
            intermodal.run(
                script, {"script": "sleep 60"}, project=tmp_path, settings={"timeout": {"shell": 1}}, grace=0.1
            )

    def test_a_backend_may_be_made_by_the_caller(self):
        assert intermodal.run(echo, backend=HostBackend()).output == "hello"
        assert intermodal.run(echo, backend=lambda place: HostBackend()).ok

        def stand_in(launch):
            (launch.attempt_dir / "outputs/parameters/out").write_text(f"stand-in for {launch.args[0]}")
            return 0

        assert intermodal.run(echo, backend=NullBackend(stand_in)).output == "stand-in for hello"

    def test_the_environment_says_where(self, tmp_path, monkeypatch):
        monkeypatch.setenv("INTERMODAL_STATE", str(tmp_path / "elsewhere"))
        assert intermodal.run(echo).folder.is_relative_to(tmp_path / "elsewhere")
        assert intermodal.run(echo, state=tmp_path / "third").folder.is_relative_to(tmp_path / "third")


class TestProgress:
    def test_it_is_quiet_where_nobody_watches(self, capfd):
        intermodal.run(echo)
        assert capfd.readouterr() == ("", "")

    def test_it_can_be_shown(self, capfd):
        run = intermodal.run(script, {"script": 'echo working; printf x > "$1"'}, progress=True)
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith(f"run {run.id}\n")
        assert "| shell: working" in err and "shell SUCCEEDED" in err

    def test_an_observer_is_told(self):
        class Watch:
            def __init__(self):
                self.seen: list[tuple[str, str]] = []

            def task(self, path, state, seconds, failure, note):
                self.seen.append((path, state.value))

            def line(self, path, line):
                self.seen.append((path, line.decode()))

        intermodal.run(script, {"script": 'echo hi; printf x > "$1"'}, progress=(watch := Watch()))
        assert watch.seen == [("shell", "RUNNING"), ("shell", "hi"), ("shell", "SUCCEEDED")]


class TestManners:
    """In other people's processes: notebooks, event loops, threads, Ctrl-C."""

    def test_importing_costs_nothing(self):
        code = (
            "import sys; before = set(sys.modules); import intermodal; dir(intermodal);"
            "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
            "print(sorted(new & {'kfp', 'docker', 'rich', 'yaml', 'pydantic', 'requests', 'sqlite3', 'pytest'}));"
            "intermodal.run; print(sorted({'kfp', 'docker', 'rich', 'requests', 'pytest'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.splitlines() == ["[]", "[]"], done.stderr

    def test_every_public_name_is_there(self):
        for name in intermodal.__all__:
            assert getattr(intermodal, name) is not None
        with pytest.raises(AttributeError, match="nothing"):
            _ = intermodal.nothing

    def test_inside_a_running_event_loop(self):
        async def cell() -> tuple[str, list[str]]:
            here = intermodal.run(echo, {"text": "here"}).output
            calls = [asyncio.to_thread(intermodal.run, echo, {"text": text}) for text in "ab"]
            return here, [run.output for run in await asyncio.gather(*calls)]

        assert asyncio.run(cell()) == ("here", ["a", "b"])

    def test_several_at_once_from_several_threads(self):
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with ThreadPoolExecutor(6) as pool:
            runs = list(pool.map(lambda n: intermodal.run(reporting, {"text": str(n), "count": n}), range(6)))
        assert [run.outputs["count"] for run in runs] == list(range(6))
        assert [run.outputs["model"].path.read_text() for run in runs] == [str(n) for n in range(6)]
        assert len({run.id for run in runs}) == 6
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

    def test_a_run_may_go_on_in_the_background_and_be_stopped(self):
        running = intermodal.start(script, {"script": "sleep 60"}, grace=0.5)
        assert not running.done
        with pytest.raises(TimeoutError, match=running.id):
            running.wait(0.2)
        running.stop()
        with pytest.raises(RunFailed, match=f"run {running.id} was stopped") as caught:
            running.wait(30)
        assert running.done and caught.value.run.state is State.CANCELLED
        assert not [thread for thread in threading.enumerate() if running.id in thread.name and thread.is_alive()]

    def test_a_keyboard_interrupt_stops_the_run_and_is_raised(self, tmp_path):
        """As Ctrl-C does, and the stop button of a notebook."""
        program = tmp_path / "program.py"
        program.write_text(
            textwrap.dedent(f"""
            import signal
            import intermodal
            from tests.test_api import script
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
            try:
                intermodal.run(script, {{"script": "echo $$ > {tmp_path}/pid; trap 'echo saved > {tmp_path}/saved; exit 1' TERM; "
                                                   "while true; do sleep 0.1; done"}})
            except KeyboardInterrupt:
                print(intermodal.get_run().state.value, flush=True)
                raise
            """)
        )
        child = subprocess.Popen(
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline and child.poll() is None, child.communicate()
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        assert out == "CANCELLED\n", err
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert child.returncode == -signal.SIGINT
        assert (tmp_path / "saved").read_text() == "saved\n"
        assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


@pytest.mark.engine
def test_in_containers(tmp_path):
    @dsl.container_component
    def step(text: str, data: dsl.Output[dsl.Dataset], out: dsl.OutputPath(int)):
        code = "import os, sys; open(sys.argv[2], 'w').write(sys.argv[1]); open(sys.argv[3], 'w').write('42'); print(os.getpid())"
        return dsl.ContainerSpec(
            image="intermodal/base:dev", command=["python3", "-c", code], args=[text, data.path, out]
        )

    class Both(NamedTuple):
        data: dsl.Dataset
        out: int

    @dsl.pipeline(name="p")
    def pipeline(text: str) -> Both:
        task = step(text=text)
        return Both(task.outputs["data"], task.outputs["out"])

    run = intermodal.run(pipeline, {"text": "inside"}, backend="docker")
    assert run.backend == "docker" and run.outputs["out"] == 42
    assert run.outputs["data"].path.read_text() == "inside"
    assert int(run.tasks["step"].log) < 10  # an init process, and the step


def test_reading_does_not_need_what_is_gone(tmp_path):
    run = intermodal.run(script, {"script": 'echo x; printf x > "$1"'})
    run.tasks["shell"].attempts[0].log_path.unlink()
    assert intermodal.get_run(run.id).tasks["shell"].log == ""


def test_an_input_artifact_is_listed(tmp_path):
    @dsl.pipeline(name="p")
    def pipeline(data: dsl.Input[dsl.Dataset]) -> str:
        return read(data=data).output

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("mine")
    run = intermodal.run(pipeline, {"data": tmp_path / "data"})
    assert run.output == "mine"
    assert (run.tasks["read"].inputs["data"].path / "file").read_text() == "mine"
    assert run.arguments["data"] == [run.tasks["read"].inputs["data"].digest]
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert intermodal.run(pipeline, {"data": tmp_path / "link"}).state is State.CACHED

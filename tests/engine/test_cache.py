"""What runs again and what does not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import dsl

from intermodal.engine.options import Options
from intermodal.errors import BadInput
from tests.conftest import Run
from tests.engine.steps import join, make, number, read, say, shell
from tests.support.host import HostBackend


@dsl.pipeline(name="chain")
def chain(text: str, other: str = "o") -> str:
    made = make(text=text)
    seen = read(data=made.outputs["data"])
    return join(left=seen.outputs["out"], right=other).outputs["out"]


def ran(backend: HostBackend) -> list[str]:
    return sorted(launch.task for launch in backend.launches)


def go(run: Run, pipeline=chain, options: Options | None = None, digests: dict[str, str] | None = None, **arguments):
    backend = HostBackend()
    backend.digests = digests or {}
    return run(pipeline, backend=backend, options=options, **arguments), ran(backend)


def test_a_second_run_starts_nothing_and_gives_the_same(run: Run):
    first, started = go(run, text="a")
    assert started == ["join", "make", "read"]
    second, started = go(run, text="a")
    assert started == []
    assert set(second.states.values()) == {"CACHED"}
    assert first.result.outputs == second.result.outputs
    assert second.tasks()["join"]["cached_from"] == f"{first.result.run_id}/join"


def test_only_what_changed_and_what_depends_on_it_runs_again(run: Run):
    go(run, text="a", other="x")
    assert go(run, text="a", other="y")[1] == ["join"]
    assert go(run, text="b", other="x")[1] == ["join", "make", "read"]


def test_an_image_changed_under_its_tag_is_a_miss(run: Run):
    go(run, text="a")
    assert "make" in go(run, text="a", digests={"shell": "another"})[1]


def test_an_upstream_that_writes_the_same_bytes_leaves_downstream_cached(run: Run):
    @dsl.container_component
    def constant(salt: str, data: dsl.Output[dsl.Dataset]):
        script = 'mkdir "$1" && echo same > "$1/file"'
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=[data.path, salt])

    @dsl.pipeline(name="same")
    def same(salt: str) -> str:
        return read(data=constant(salt=salt).outputs["data"]).outputs["out"]

    go(run, same, salt="1")
    assert go(run, same, salt="2")[1] == ["constant"]


def test_a_failure_is_never_cached(run: Run, tmp_path: Path):
    flag = tmp_path / "flag"

    @dsl.pipeline(name="flaky")
    def flaky(flag: str) -> str:
        return shell(script=f'test -e {flag} && printf ok > "$1"').outputs["out"]

    assert go(run, flaky, flag=str(flag))[0].states["shell"] == "FAILED"
    flag.touch()
    assert go(run, flaky, flag=str(flag))[0].states["shell"] == "SUCCEEDED"


def test_caching_can_be_turned_off_for_a_run_and_for_a_task(run: Run):
    @dsl.pipeline(name="off")
    def off():
        say(text="a").set_caching_options(False)
        make(text="a")

    go(run, off)
    assert go(run, off)[1] == ["say"]
    assert go(run, off, options=Options(cache=False))[1] == ["make", "say"]


def test_caching_can_be_turned_off_for_all_in_a_nested_pipeline_and_for_a_task_by_its_path(run: Run):
    @dsl.pipeline(name="inner")
    def inner():
        say(text="a")
        with dsl.ParallelFor([1, 2]) as item:
            number(value=item)

    @dsl.pipeline(name="outer")
    def outer():
        inner()
        make(text="a")

    def again(*names: str) -> list[str]:
        return go(run, outer, options=Options(no_cache_tasks=frozenset(names)))[1]

    everything = go(run, outer)[1]
    loop = ["inner/for-loop-2/0/number", "inner/for-loop-2/1/number"]
    assert everything == [*loop, "inner/say", "make"]
    assert again("inner") == [*loop, "inner/say"]
    assert again("number") == again("inner/for-loop-2") == loop
    assert again("inner/for-loop-2/1") == loop[1:]
    assert again("say", "make") == ["inner/say", "make"]


def test_a_task_that_does_not_exist_is_no_task_to_run_anyway(run: Run):
    with pytest.raises(BadInput, match="has no task 'raed'") as error:
        go(run, text="a", options=Options(no_cache_tasks=frozenset({"raed"})))
    assert error.value.hint == "it has read"


def test_the_record_says_why(run: Run):
    @dsl.pipeline(name="why")
    def why(word: str):
        said = say(text=word).set_caching_options(False)
        with dsl.If(said.output == "b"):
            make(text="a")
        shell(script="exit 3").set_display_name("bad")
        say(text="x").after(shell(script="exit 4"))

    reasons = {path: row["reason"] for path, row in go(run, why, word="a")[0].tasks().items()}
    assert reasons == {
        "say": "caching is off for it in the pipeline",
        "condition-1": "its condition was false: say-out == 'b', with say-out = 'a'",
        "shell": "no entry in the cache",
        "shell-2": "no entry in the cache",
        "say-2": "upstream shell-2 failed",
    }
    first, _ = go(run, text="a")
    cached = go(run, text="a")[0].tasks()["make"]
    assert cached["reason"] == f"the same task as make of run {first.result.run_id}"
    anyway = go(run, text="a", options=Options(no_cache_tasks=frozenset({"make"})))[0].tasks()["make"]
    assert anyway["reason"] == "caching is off for it (--no-cache-task)"
    anyway = go(run, text="a", options=Options(cache=False))[0].tasks()["make"]
    assert anyway["reason"] == "caching is off for the run (--no-cache)"


def test_a_lost_store_is_a_miss_not_a_crash(run: Run):
    first, _ = go(run, text="a")
    shutil.rmtree(first.state / "store")
    second, started = go(run, text="a")
    assert started == ["make"]  # the others made parameters alone, which are in the record
    assert second.result.state.green
    assert second.tasks()["make"]["reason"].endswith("cannot be used: artifact 'data': it is not in the store")


DAMAGES = {
    "content": lambda entry: (entry / "data" / "file").chmod(0o644) or (entry / "data" / "file").write_text("b"),
    "manifest gone": lambda entry: (entry / "manifest.json").unlink(),
    "manifest garbage": lambda entry: (
        (entry / "manifest.json").chmod(0o644) or (entry / "manifest.json").write_text("{")
    ),
    "data gone": lambda entry: shutil.rmtree(entry / "data"),
    "all of it gone": shutil.rmtree,
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_entry_is_a_miss_with_a_warning_and_is_mended(run: Run, kind: str):
    first, _ = go(run, text="a")
    digest = next(iter(first.digests_of("make").values()))
    entry = first.state / "store" / digest[:2] / digest
    DAMAGES[kind](entry)
    second, started = go(run, text="a")
    assert started == ["make"] and second.result.outputs == first.result.outputs
    assert any(path == "make" and line.startswith(b"cache: ") for path, line in second.recorder.lines)
    assert (entry / "data" / "file").read_text() == "a"
    assert go(run, text="a")[1] == []


def test_the_order_of_keys_makes_no_other_task(run: Run):
    @dsl.container_component
    def show(values: dict, out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[values, out])

    @dsl.pipeline(name="keys")
    def keys(values: dict) -> str:
        return show(values=values).outputs["out"]

    go(run, keys, values={"a": 1, "b": 2.0})
    assert go(run, keys, values={"b": 2, "a": 1})[1] == []


def test_a_fingerprint_is_the_same_in_every_process():
    code = (
        "from intermodal.engine.fingerprint import identify\nfrom intermodal.engine.artifacts import Inputs\n"
        "from intermodal.spec.types import *\n"
        "c = Component('c', Container('i', ('x',), (\"{{$.inputs.parameters['a']}}\",)), {'a': InputParameter(ParameterType.STRUCT)},"
        " {}, {'o': ParameterType.STRING})\n"
        "print(identify(c, c.implementation, Inputs({'a': {'k': 1, 'é': [2.5, None]}}), 'd', {}).fingerprint)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            cwd=Path(__file__).parents[2],
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(found) == 1 and len(json.dumps(found.pop())) > 60

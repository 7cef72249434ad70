"""The corpus runner itself, on a corpus of its own: what is right, what is refused, and that it can tell what is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kfp import compiler, dsl

from intermodal.engine.backend import Exit, Image, Launch
from tests.corpus.__main__ import run
from tests.corpus.azureml import check_azureml
from tests.corpus.engine import Seen
from tests.corpus.replay import Replay
from tests.oracle.leaf import Place, Step


@dsl.container_component
def say(text: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="alpine", command=["sh", "-c", 'printf %s "$0" > "$1"', text, out])


@dsl.container_component
def fail():
    return dsl.ContainerSpec(image="python:3.11", command=["python3", "-c", "raise SystemExit(3)"])


@dsl.container_component
def elsewhere():
    return dsl.ContainerSpec(image="gcr.io/my-image", command=["true"])


@dsl.pipeline(name="good")
def good(text: str) -> str:
    with dsl.ParallelFor(["a", "b"]) as item:
        say(text=item)
    return say(text=f"<{text}>").outputs["out"]


@dsl.pipeline(name="bad")
def bad():
    fail()


@dsl.pipeline(name="far")
def far():
    elsewhere()


@pytest.mark.engine
def test_the_table_tells_right_from_refused_and_wrong(tmp_path: Path):
    corpus = tmp_path / "corpus"
    (corpus / "failing").mkdir(parents=True)
    for name, pipeline in {
        "hello_world.yaml": good,
        "failing/fail_v2.yaml": bad,  # it is known that this one must fail, ...
        "container_with_artifact_output.yaml": far,
        "other.yaml": bad,  # ... that this one must not, ...
        "another.yaml": far,  # ... and that this one needs nothing that is not here
    }.items():
        (corpus / name).parent.mkdir(exist_ok=True)
        compiler.Compiler().compile(pipeline, str(corpus / name))
    rows = {row.path: row for row in run(corpus, [], tmp_path / "work")}
    assert {path: row.verdict for path, row in rows.items()} == {
        "hello_world.yaml": "right",
        "failing/fail_v2.yaml": "right",
        "container_with_artifact_output.yaml": "refused",
        "other.yaml": "wrong",
        "another.yaml": "wrong",
    }
    assert rows["hello_world.yaml"].tasks == 3
    assert "gcr.io/my-image" in rows["container_with_artifact_output.yaml"].words[0]
    assert any("ended FAILED, which it must not" in text for text in rows["other.yaml"].words)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["state"]


@pytest.mark.engine
def test_the_table_of_both_backends(tmp_path: Path):
    corpus = tmp_path / "corpus"
    (corpus / "failing").mkdir(parents=True)
    for name, pipeline in {"good.yaml": good, "failing/fail_v2.yaml": bad, "other.yaml": bad}.items():
        compiler.Compiler().compile(pipeline, str(corpus / name))
    rows = {row.path: row for row in run(corpus, [], tmp_path / "work", check_azureml)}
    assert {path: row.verdict for path, row in rows.items()} == {
        "good.yaml": "right",
        "failing/fail_v2.yaml": "right",
        "other.yaml": "wrong",
    }
    assert rows["good.yaml"].tasks == 4  # the last one writes the pipeline's outputs
    assert "the job has failed, which it must not" in rows["other.yaml"].words[-1]


GIVEN = {"inputs": {"parameterValues": {"n": 5}}, "outputs": {"outputFile": "/kfp/outputs/executor_output.json"}}
STEP = Step("a", 1, ["run", json.dumps(GIVEN)], ["x"], [("A", "1"), ("B", "$(A)2")], "alpine", {})


def attempt(folder: Path) -> Seen:
    launch = Launch(
        run_id="r",
        task="a",
        attempt=1,
        image=Image("alpine", "id", "digest"),
        command=("run", json.dumps(GIVEN, sort_keys=True, indent=1)),
        args=("x",),
        env={"A": "1", "B": "12", "HOME": "/tmp"},
        mounts=(),
        attempt_dir=folder,
        log=folder / "log",
    )
    return Seen(launch, Exit(0, None, 0.1), folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"args": ("y",)}, "the engine gave 'y'"),
        ({"args": ()}, "the engine gave 2 words, the oracle 3"),
        ({"command": ("run", json.dumps({**GIVEN, "inputs": {"parameterValues": {"n": 5.5}}}))}, "5.5"),
        ({"env": {"A": "1", "B": "1"}}, "B is '1', for the oracle '12'"),
        ({"image": Image("busybox", "id", "digest")}, "image busybox"),
        ({"attempt": 2}, "was not run"),
    ],
)
def test_a_step_that_was_given_something_else_is_noticed(tmp_path: Path, change: dict, word: str):
    seen = attempt(tmp_path)
    seen = replace(seen, launch=replace(seen.launch, **change))
    replay = Replay({("a", seen.launch.attempt): seen}, tmp_path, "r", {}, tmp_path)
    replay.run(STEP, Place("/kfp", tmp_path), {}, set())
    assert word in " ".join(replay.problems) if word else replay.problems == []

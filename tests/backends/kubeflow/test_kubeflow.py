"""The command and the real kfp client, over the wire to a recorded API."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from intermodal.backends.kubeflow.names import assign, places
from intermodal.spec.load import load_pipeline
from tests.backends.kubeflow.server import Recording, serving
from tests.support.command import Command

PIPELINE = """
from kfp import dsl

@dsl.container_component
def say(text: str):
    return dsl.ContainerSpec(image="team/say:dev", command=["echo"], args=[text])

@dsl.container_component
def other():
    return dsl.ContainerSpec(image="team/other:dev", command=["true"])

@dsl.pipeline(name="trial")
def trial(text: str = "hello"):
    first = say(text=text)
    with dsl.ParallelFor(["a", "b"]) as item:
        other().after(first)
    say(text="last").after(first)
"""
ROOT = [("root-driver", "SUCCEEDED"), ("trial-abc12", "RUNNING")]
LOOKS = [
    ("PENDING", []),
    ("RUNNING", [*ROOT, ("say-driver", "SUCCEEDED"), ("say", "RUNNING"), ("executor", "RUNNING")]),
    ("RUNNING", [*ROOT, ("say", "SUCCEEDED"), ("for-loop-2", "RUNNING"), ("other", "SUCCEEDED"), ("say-2", "RUNNING")]),
]
DONE = [*ROOT, ("say", "SUCCEEDED"), ("for-loop-2", "SUCCEEDED"), ("other", "SUCCEEDED"), ("other", "SUCCEEDED")]
GREEN = ("SUCCEEDED", [*DONE, ("say-2", "SUCCEEDED")])
RED = ("FAILED", [*DONE, ("say-2", "FAILED")])


@pytest.fixture
def intermodal(tmp_path: Path) -> Command:
    project = tmp_path / "project"
    (project / "images").mkdir(parents=True)
    (project / "pyproject.toml").write_text("")
    (project / "p.py").write_text(PIPELINE)
    (project / "images" / "registry.json").write_text(json.dumps({"team/say:dev": "reg.example/team/say@sha256:12"}))
    return Command(project, tmp_path / "state")


def _states(intermodal: Command) -> dict[str, str]:
    return {row["path"]: row["state"] for row in json.loads(intermodal.text("show", "--json"))["tasks"]}


def test_compiling_names_images_by_their_digests(intermodal: Command):
    said = intermodal.text("compile", "p.py", "-o", "out.yaml")
    assert "note: image team/other:dev has no digest" in said
    executors = yaml.safe_load((intermodal.folder / "out.yaml").read_text())["deploymentSpec"]["executors"]
    images = {item["container"]["image"] for item in executors.values()}
    assert images == {"reg.example/team/say@sha256:12", "team/other:dev"}
    (intermodal.folder / "images" / "registry.json").unlink()
    intermodal.text("compile", "p.py", "-o", "plain.yaml")
    assert "team/say:dev" in (intermodal.folder / "plain.yaml").read_text()


def test_a_run_is_sent_once_and_followed_by_task(intermodal: Command, monkeypatch: pytest.MonkeyPatch):
    recording = Recording([*LOOKS, GREEN], {"say": b"hello\n"}, faults=[200, 503, 0, 429])
    with serving(recording) as host:
        monkeypatch.setenv("INTERMODAL_KUBEFLOW_HOST", host)
        done = intermodal("submit", "p.py", "--backend", "kubeflow", "--arg", "text=hello", "--wait")
        assert done.returncode == 0, done
        shown = json.loads(intermodal.text("show", "--json"))
        (sent,) = recording.created
        assert sent["display_name"] == shown["id"]
        assert sent["runtime_config"]["parameters"] == {"text": "hello"}
        assert "reg.example/team/say@sha256:12" in json.dumps(sent["pipeline_spec"])
        assert (shown["state"], shown["backend"]) == ("SUCCEEDED", "kubeflow")
        assert _states(intermodal) == {
            "say": "SUCCEEDED",
            "say-2": "SUCCEEDED",
            "for-loop-2": "SUCCEEDED",
            "for-loop-2/0/other": "SUCCEEDED",
            "for-loop-2/1/other": "SUCCEEDED",
        }
        assert intermodal.text("logs", "say") == "hello\n"
        assert b"| say: hello" in done.stderr
        assert json.loads(intermodal.text("fetch", "--json"))["artifacts"] == 0


def test_a_failed_run_fails_the_command_and_names_the_task(intermodal: Command, monkeypatch: pytest.MonkeyPatch):
    recording = Recording([RED], {"say-2": b"it is broken\n"})
    with serving(recording) as host:
        monkeypatch.setenv("INTERMODAL_KUBEFLOW_HOST", host)
        done = intermodal("submit", "p.py", "--backend", "kubeflow", "--wait")
    assert done.returncode == 1
    assert "say-2: user_code" in done.stdout.decode()
    assert "it is broken" in done.stdout.decode()


def test_a_lost_answer_sends_nothing_twice_and_a_run_is_cancelled(intermodal: Command, monkeypatch: pytest.MonkeyPatch):
    recording = Recording(LOOKS, lose_answer=True)
    with serving(recording) as host:
        monkeypatch.setenv("INTERMODAL_KUBEFLOW_HOST", host)
        assert intermodal("submit", "p.py", "--backend", "kubeflow").returncode == 3
        intermodal.text("cancel")
        assert intermodal("resume").returncode == 130
        assert len(recording.created) == 1
        assert json.loads(intermodal.text("show", "--json"))["state"] == "CANCELLED"


def test_what_cannot_be_sent_is_said(intermodal: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("INTERMODAL_KUBEFLOW_HOST", raising=False)
    done = intermodal("submit", "p.py", "--backend", "kubeflow")
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (
        2,
        "error: [tool.intermodal.kubeflow] lacks host",
    )
    monkeypatch.setenv("INTERMODAL_KUBEFLOW_HOST", "http://127.0.0.1:1")
    done = intermodal("submit", "p.py", "--backend", "kubeflow")
    assert done.returncode == 3
    assert "no answer" in done.stderr.decode().splitlines()[0]
    assert not (intermodal.state / "runs").exists()


def test_names_become_paths(intermodal: Command):
    intermodal.text("compile", "p.py", "-o", "out.yaml")
    found: dict[str, Any] = places(load_pipeline(intermodal.folder / "out.yaml"))
    assert [path for path, _ in assign(found["other"], 3)] == [f"for-loop-2/{n}/other" for n in range(3)]
    assert [path for path, _ in assign(found["say"], 1)] == ["say"]
    assert [path for path, _ in assign(found.get("executor", ()), 2)] == []

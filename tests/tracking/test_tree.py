"""What MLflow has of real runs of the process backend, read with MLflow's own client."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

from tests.tracking.conftest import SECRET, Lab, See, wait_until

TRIALS = {"/train@1#0": "FINISHED", "/train@1#1": "KILLED", "/train@1#2": "FAILED", "/train@1#3": "FAILED"}


def test_a_run_its_tasks_and_its_trials_are_a_tree(lab: Lab, see: See, client, server_folder: Path):
    secret = lab.uri.replace("http://", "http://someone:hunter2@")
    first = lab.run("study", "--arg", "data=data.txt", MLFLOW_TRACKING_URI=secret)
    lab.sync(first["run"])
    seen = see(first["run"])
    assert seen.statuses == {"": "FINISHED", "/train@1": "FINISHED", "/bury@1": "FINISHED", **TRIALS}
    assert [seen.parent(key) for key in seen.runs if "#" in key] == ["/train@1"] * 4
    info = seen.runs[""].info
    assert first["tracking"] in ("", f"{lab.uri}/#/experiments/{info.experiment_id}/runs/{info.run_id}")
    assert (seen.parent("/train@1"), seen.parent("")) == ("", None)
    root, train = seen.runs[""].data, seen.runs["/train@1"].data
    assert client.get_experiment(seen.runs[""].info.experiment_id).name == "study"
    assert root.params == {"lr": "0.3", "breaks": "false"}
    assert train.params == {"lr": "0.3", "backbone": "tiny"}
    assert {name: value for name, value in train.metrics.items() if name != "diverged"} == {
        "loss": 0.2, "score": 0.75, "accuracy": 0.9
    }  # fmt: skip
    assert math.isnan(train.metrics["diverged"])
    curve = client.get_metric_history(seen.runs["/train@1"].info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(step, 1.0 / step) for step in range(1, 6)]
    assert seen.runs["/train@1#2"].data.metrics == {"f1": 0.7}
    assert [seen.tag(f"/train@1#{number}", "state") for number in range(4)] == [
        "COMPLETE", "PRUNED", "FAIL", "FAIL"
    ]  # fmt: skip
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=lab.project, capture_output=True, text=True, check=True)
    assert root.tags["intermodal.git.commit"] == head.stdout.strip()
    assert root.tags["intermodal.git.dirty"] == "false"
    assert json.loads(root.tags["intermodal.hardware"])["memory"] > 2**30
    assert train.tags["intermodal.image"].startswith("sha256:")
    assert train.tags["intermodal.component"] == "train"
    identities = {key: seen.tag(key, "fingerprint") for key in ("", "/train@1", "/train@1#0", "/train@1#1")}
    assert len(set(identities.values())) == 4
    words = {"": "study-lr0.3", "/train@1": "train-lr0.3", "/train@1#0": "trial-lr0", "/train@1#1": "trial-lr0.1"}
    assert {key: seen.runs[key].info.run_name for key in words} == {
        key: f"{shown}-{identities[key][:16]}" for key, shown in words.items()
    }
    (given,) = seen.runs["/train@1"].inputs.dataset_inputs
    digest = json.loads(train.tags["intermodal.inputs"])["data"]
    assert json.loads(given.dataset.source)["digest"] == f"sha256:{digest}" and digest.startswith(given.dataset.digest)
    # The step's secret is not sent, and a password in the address of the server is seen by nobody.
    assert not [path for path in server_folder.glob("mlflow.db*") if SECRET.encode() in path.read_bytes()]
    kept = [path for path in lab.state.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(kept) > 10 and not [path for path in kept if b"hunter2" in path.read_bytes()]

    again = lab.run("study", "--arg", "data=data.txt")
    lab.sync(again["run"])
    cached = see(again["run"])
    assert cached.statuses == {"": "FINISHED", "/train": "FINISHED", "/bury": "FINISHED"}
    assert cached.tag("/train", "state") == "CACHED"
    assert cached.tag("/train", "cached_from") == f"{first['run']}/train"
    assert cached.tag("/train", "fingerprint") == seen.tag("/train@1", "fingerprint")
    assert cached.tag("/train", "image") == seen.tag("/train@1", "image")
    assert cached.tag("", "fingerprint") == seen.tag("", "fingerprint")
    assert cached.runs["/train"].info.run_name == seen.runs["/train@1"].info.run_name
    assert cached.runs["/train"].data.metrics == {"score": 0.75, "accuracy": 0.9}


def test_the_word_of_the_command_line_decides_whether_a_run_is_tracked(lab: Lab, see: See):
    silent = lab.run("study", "--arg", "data=data.txt", "--no-track")["run"]
    told = lab.run("study", "--arg", "data=data.txt", "--track", INTERMODAL_TRACKING="off")["run"]
    wait_until(lambda: see(told).statuses.get("") == "FINISHED")
    assert see(silent).statuses == {}


def test_each_attempt_of_a_failed_task_is_a_run(lab: Lab, see: See):
    run = lab.run("study", "--arg", "data=data.txt", "--arg", "breaks=true", code=1)["run"]
    lab.sync(run)
    seen = see(run)
    broken = "/condition-1/broken"
    failed = {"": "FAILED", f"{broken}@1": "FAILED", f"{broken}@2": "FAILED"}
    assert seen.statuses == {"/train@1": "FINISHED", "/bury@1": "FINISHED", **TRIALS, **failed}
    assert [seen.tag(f"{broken}@{number}", "failure") for number in (1, 2)] == ["user_code"] * 2


def test_a_killed_run_is_said_to_be_killed_and_a_resumed_one_is_not(lab: Lab, see: See, client):
    go = lab.state / "go"
    words = ("--backend", "process", "--arg", f"go={go}", "--network", "wait=tracking")
    runner = lab.start("run", str(lab.project / "patient.yaml"), *words)
    wait_until(lambda: any((lab.state / "runs").glob("*")))
    (run,) = (path.name for path in (lab.state / "runs").iterdir())
    wait_until(lambda: see(run).statuses == {"": "RUNNING", "/wait@1": "RUNNING", "/wait@1#0": "RUNNING"})
    runner.kill()
    wait_until(lambda: set(see(run).statuses.values()) == {"KILLED"})
    assert see(run).tag("", "state") == "INTERRUPTED"
    go.touch()
    lab.do("resume", run)
    lab.sync(run)
    assert see(run).statuses == {"": "FINISHED", "/wait@1": "FINISHED", "/wait@1#0": "FINISHED"}
    waited = see(run).runs["/wait@1"]
    assert waited.data.tags["told"] == waited.info.run_id  # network `tracking` names it to the step
    curve = client.get_metric_history(waited.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in curve) == [(1, 1.0), (2, 0.5)]

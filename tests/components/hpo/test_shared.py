"""A search shared by containers: workers in a loop, then the step that closes the study, on a PostgreSQL that only a secret names."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import docker
import pytest
from kfp import compiler, dsl, kubernetes

from components.hpo.component import hpo, hpo_worker
from intermodal import run
from tests.support.postgres import postgres

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[3]

HOW = {
    "search_space": {"learning_rate": {"type": "loguniform", "min": 1e-3, "max": 1e-2}},
    "training": {"epochs": 2, "max_tokens": 64, "stride": 16, "patience": 0},
    "trials": 6,
    "sampler": "tpe",
    "pruner": "none",
    "seed": 3,
    "threads": 1,
}


def on_a_database(task: dsl.PipelineTask) -> None:
    kubernetes.use_secret_as_env(task, "intermodal-hpo", {"storage-url": "INTERMODAL_HPO_STORAGE"})
    task.set_cpu_limit("0.5").set_memory_limit("2Gi")


@dsl.pipeline(name="shared-search")
def shared_search(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model], workers: list) -> dict:
    with dsl.ParallelFor(workers) as worker:
        helper = hpo_worker(worker=worker, dataset=dataset, backbone=backbone, **HOW)
        on_a_database(helper)
    found = hpo(helpers=dsl.Collected(helper.outputs["done"]), dataset=dataset, backbone=backbone, **HOW)
    on_a_database(found)
    return found.outputs["best_parameters"]


@dsl.pipeline(name="killed-search")
def killed_search(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model], workers: list) -> dsl.Artifact:
    how = {**HOW, "training": {**HOW["training"], "epochs": 20}}
    with dsl.ParallelFor(workers) as worker:
        helper = hpo_worker(worker=worker, dataset=dataset, backbone=backbone, **how)
        kubernetes.mount_pvc(helper, pvc_name="studies", mount_path="/state")
    found = hpo(helpers=dsl.Collected(helper.outputs["done"]), dataset=dataset, backbone=backbone, **how)
    kubernetes.mount_pvc(found, pvc_name="studies", mount_path="/state")
    return found.outputs["study"]


def test_a_search_of_two_workers_goes_on_when_its_runner_and_a_worker_were_killed(
    few_documents: Path, tiny_backbone: Path, tmp_path: Path
):
    """Each point is trained to its end, that of the killed worker by whoever lives; no trial is left running, none is one too many."""
    path, state = tmp_path / "killed.yaml", tmp_path / "state"
    compiler.Compiler().compile(killed_search, str(path))
    words = [sys.executable, "-m", "intermodal"]
    given = {"dataset": few_documents, "backbone": tiny_backbone, "workers": "[0, 1]"}
    more = [word for name, value in given.items() for word in ("--arg", f"{name}={value}")]
    runner = subprocess.Popen(
        [*words, "run", str(path), "--state", str(state), "--plain", *more], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert runner.stderr is not None
    assert any("macro-F1" in line and "trial " in line for line in runner.stderr), "no trial was done"
    runner.kill()
    runner.communicate()
    (run_id,) = (folder.name for folder in (state / "runs").iterdir())
    client = docker.from_env()
    try:
        workers = client.containers.list(filters={"label": f"io.intermodal.run={run_id}"}, ignore_removed=True)
        assert workers, "both have ended: a trial must take longer than it takes to kill one of them"
        workers[0].kill("SIGKILL")
    finally:
        client.close()
    resumed = subprocess.run(
        [*words, "resume", run_id, "--state", str(state), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert resumed.returncode == 0, resumed.stderr
    (study,) = json.loads(resumed.stdout)["artifacts"].values()
    trials = json.loads((Path(study) / "study.json").read_text())["trials"]
    states = Counter(trial["state"] for trial in trials)
    assert states["complete"] == 6 and set(states) <= {"complete", "interrupted"}, states
    assert states["interrupted"] <= 1
    points = [trial["hyperparameters"]["learning_rate"] for trial in trials if trial["state"] == "complete"]
    assert len(set(points)) == 6


def test_two_workers_share_a_search_on_a_database_that_no_record_names(
    few_documents: Path, tiny_backbone: Path, tmp_path: Path
):
    client = docker.from_env()
    gateway = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    client.close()
    with postgres(gateway) as url:
        secret = tmp_path / "secrets" / "intermodal-hpo"
        secret.mkdir(parents=True)
        (secret / "storage-url").write_text(url + "\n")
        done = run(
            shared_search,
            {"dataset": few_documents, "backbone": tiny_backbone, "workers": [0, 1]},
            backend="docker",
            state=tmp_path / "state",
            secrets=tmp_path / "secrets",
            settings={"network": {"hpo": "bridge", "hpo-worker": "bridge"}},
        )
    assert done.output.keys() == {"learning_rate"}
    tasks = {task.path: task for task in done.tasks.values()}
    ran = [task.outputs["done"]["trials"] for path, task in tasks.items() if path.endswith("hpo-worker")]
    assert sum(ran) == 6 and min(ran) >= 1, ran
    study = json.loads((Path(tasks["hpo"].outputs["study"].path) / "study.json").read_text())
    assert [trial["state"] for trial in study["trials"]] == ["complete"] * 6
    password = url.split(":")[2].split("@")[0]
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert password.encode() not in path.read_bytes(), path

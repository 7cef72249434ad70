"""A search shared by containers: workers in a loop, then the step that closes the study, on a PostgreSQL that only a secret names."""

import json
from pathlib import Path

import docker
import pytest
from kfp import dsl, kubernetes

from components.hpo.component import hpo, hpo_worker
from intermodal import run
from tests.support.postgres import postgres

pytestmark = pytest.mark.engine

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

"""The seed page's examples, with this project's import path, against the emulated workspace: real client, real images.

Sweep, wait, select, final training, conversion, benchmark. What differs from the page: the import path, arguments that it left out as
`...`, and the objective's name, which was `macro-f1`: asking for that is an error that names the nearest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from components.images import image
from intermodal.backends.azureml.emulator.client import connect
from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.emulator.plane import Plane, running
from intermodal.backends.docker import DockerBackend
from intermodal.errors import BadInput
from intermodal.jobs import (
    JobUnfit,
    build_final_training_config,
    create_benchmark_job,
    create_conversion_job,
    create_final_training_job,
    create_hpo_sweep_job_for_backbone,
    ensure_data_asset_uploaded,
    register_data_asset,
    select_best_configuration,
    submit_and_wait_for_job,
    validate_final_training_job,
    validate_sweep_job,
)
from intermodal.jobs.tracking import read_trials
from tests.backends.azureml.test_native_sweep import SPACE
from tests.support.azurite import TOOLS
from tests.support.command import Command

pytestmark = pytest.mark.engine

STEPS = ("trainer", "converter", "benchmarker")
IN_REGISTRY = {step: f"name.azurecr.io/intermodal/{step}@sha256:{number:064d}" for number, step in enumerate(STEPS)}
HPO = {
    "search_space": {
        "learning_rate": {"type": "loguniform", "min": 0.002, "max": 0.02},
        "batch_size": {"type": "choice", "values": [2]},
        "dropout": {"type": "quniform", "min": 0.0, "max": 0.2, "q": 0.1},
    },
    "sampling": {"algorithm": "random", "seed": 1, "max_trials": 2, "max_concurrent_trials": 2, "timeout_minutes": 10},
    "early_termination": {"policy": "median", "delay_evaluation": 5},
}
TRAIN = {"epochs": 2, "max_tokens": 64, "stride": 16, "weight_decay": 0.02}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A workspace whose jobs run in the step images of this machine, which stand in for those of a registry."""
    engine = docker.from_env()
    gateway = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    engine.close()
    folder = tmp_path_factory.mktemp("jobs")

    def executor(plane: Plane) -> JobExecutor:
        images = {IN_REGISTRY[step]: image(step) for step in STEPS}
        made = JobExecutor(plane, DockerBackend(), folder, Options(images=images, cores=2))
        made.prepare()
        return made

    with running(tmp_path_factory.mktemp("workspace"), executor, tools=TOOLS, container_host=gateway) as plane:
        yield plane


@pytest.fixture
def ml_client(plane: Plane) -> Iterator[Any]:
    with connect(plane.folder) as client:
        yield client


def test_from_a_sweep_to_a_benchmark(ml_client: Any, few_documents: Path, tiny_backbone: Path, tmp_path: Path):
    dataset = ensure_data_asset_uploaded(ml_client, "documents", few_documents)
    ensure_data_asset_uploaded(ml_client, "distilbert", tiny_backbone)  # what the page's backbone is called
    script = tmp_path / "src" / "training" / "cli" / "train.py"
    script.parent.mkdir(parents=True)
    script.write_text(
        "from components.kfp_io import run_step\nfrom components.trainer.__main__ import main\n\nrun_step(main)\n"
    )
    again = ensure_data_asset_uploaded(ml_client, "documents", few_documents)
    assert (again.version, again.path) == (dataset.version, dataset.path)
    with pytest.raises(BadInput, match=f"documents:{dataset.version} is azureml://"):
        register_data_asset(ml_client, "documents", "azureml://datastores/x/paths/y", version=str(dataset.version))

    sweep_job = create_hpo_sweep_job_for_backbone(
        script_path=script,
        data_asset=dataset,
        environment=IN_REGISTRY["trainer"],
        compute_cluster="gpu-cluster",
        backbone="distilbert",
        hpo_config=HPO,
        configs={"train": TRAIN},
        config_metadata={"data_hash": dataset.version},
        aml_experiment_name="my_experiment",
        stage="hpo",
    )
    completed_sweep = submit_and_wait_for_job(ml_client, sweep_job, timeout=300, poll=0.5)

    trials = validate_sweep_job(completed_sweep, "distilbert", ml_client, min_expected_trials=2)
    assert [trial.status for trial in trials] == ["Completed", "Completed"]
    rates = [trial.hyperparameters["learning_rate"] for trial in trials]
    assert all(0.002 <= rate <= 0.02 for rate in rates) and len(set(rates)) == 2
    with pytest.raises(JobUnfit, match=r"2 of 2 trials completed .*, expected 3"):
        validate_sweep_job(completed_sweep, "distilbert", ml_client, min_expected_trials=3)

    with pytest.raises(BadInput) as caught:
        select_best_configuration(completed_sweep, ml_client, objective_metric="macro-f1")
    assert "macro_f1" in str(caught.value.hint)
    best = select_best_configuration(completed_sweep, ml_client, objective_metric="validation_macro_f1")
    assert best.value == max(trial.metrics["validation_macro_f1"] for trial in trials)
    assert best.hyperparameters["batch_size"] == 2 and best.hyperparameters["weight_decay"] == 0.02

    final_config = build_final_training_config(best, {**TRAIN, "batch_size": 16}, random_seed=42)
    training_job = create_final_training_job(
        data_asset=dataset,
        environment=IN_REGISTRY["trainer"],
        compute_cluster="gpu-cluster",
        config=final_config,
        aml_experiment_name="my_experiment",
    )
    completed_training = submit_and_wait_for_job(ml_client, training_job, timeout=300, poll=0.5)
    assert validate_final_training_job(completed_training, ml_client).startswith("azureml")
    ml_client.jobs.download(completed_training.name, download_path=tmp_path / "training", output_name="model")
    (written,) = (tmp_path / "training").rglob("ner.json")
    ner = json.loads(written.read_text())
    assert ner["hyperparameters"]["learning_rate"] == best.hyperparameters["learning_rate"]
    assert ner["hyperparameters"]["batch_size"] == 2 and ner["training"]["all_data"] is True

    conversion_job = create_conversion_job(
        training_job=completed_training,
        environment=IN_REGISTRY["converter"],
        compute_cluster="cpu-cluster",
        gate={"int8_agreement": 0.0, "int8_macro_f1": 1.0, "fp32_logits": 0.01},
    )
    converted = submit_and_wait_for_job(ml_client, conversion_job, timeout=300, poll=0.5)
    benchmark_job = create_benchmark_job(
        conversion_jobs=[converted],
        environment=IN_REGISTRY["benchmarker"],
        compute_cluster="cpu-cluster",
        settings={"rounds": 1, "requests": 5, "warmup": 1},
    )
    measured = submit_and_wait_for_job(ml_client, benchmark_job, timeout=300, poll=0.5)
    ml_client.jobs.download(measured.name, download_path=tmp_path / "benchmark", output_name="benchmark")
    (written,) = (tmp_path / "benchmark").rglob("benchmark.json")
    candidates = json.loads(written.read_text())["candidates"]
    assert {(entry["backbone"], entry["variant"]) for entry in candidates} == {("tiny", "fp32"), ("tiny", "int8")}


PIPELINE = """
from kfp import dsl

from components.hpo.component import hpo
from components.trainer.component import trainer


@dsl.pipeline(name="searching")
def searching(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model]) -> dict:
    training = {"epochs": 1, "max_tokens": 64, "stride": 16}
    found = hpo(dataset=dataset, backbone=backbone, search_space=SPACE, training=training, trials=3, sampler="tpe", pruner="median", seed=1)
    best = found.outputs["best_parameters"]
    trainer(dataset=dataset, backbone=backbone, hyperparameters=best, training=training, seed=1)
    return best
"""


def test_a_native_sweep_in_a_submitted_pipeline_feeds_what_comes_after_it(
    plane: Plane,
    ml_client: Any,
    few_documents: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.intermodal.azureml.sweeps.hpo]\nmax_concurrent_trials = 2\n")
    (project / "p.py").write_text(PIPELINE.replace("SPACE", repr(SPACE)))
    monkeypatch.setenv("INTERMODAL_EMULATOR", str(plane.folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    intermodal = Command(project, tmp_path / "state")
    given = ["--arg", f"dataset={few_documents}", "--arg", f"backbone={tiny_backbone}"]
    submitted = intermodal("submit", "p.py", "--backend", "azureml", "--wait", *given)
    assert submitted.returncode == 0, submitted.stderr.decode()
    intermodal.text("fetch")
    shown = json.loads(intermodal.text("show", "--json"))
    tasks = {row["path"]: row for row in shown["tasks"]}
    assert {path: row["state"] for path, row in tasks.items()} == {"hpo": "SUCCEEDED", "trainer": "SUCCEEDED"}
    best = tasks["hpo"]["outputs"]["parameters"]["best_parameters"]
    assert tasks["trainer"]["inputs"]["parameters"]["hyperparameters"] == best

    table = (tmp_path / "state").glob("store/*/*/data")
    rows = [
        path.read_text().splitlines()
        for path in table
        if path.is_file() and path.read_bytes().startswith(b"trial,state")
    ]
    assert len(rows) == 1 and len(rows[0]) == 2, "the winner's row, brought here"

    job = next(job.name for job in ml_client.jobs.list() if job.type == "pipeline")
    (sweep,) = [child.name for child in ml_client.jobs.list(parent_job_name=job) if child.display_name == "hpo"]
    trials = read_trials(ml_client, sweep)
    assert len(trials) == 3 and {trial.status for trial in trials} == {"Completed"}
    winner = max(trials, key=lambda trial: trial.metrics["validation_macro_f1"])
    assert winner.hyperparameters is not None
    assert best == {name: winner.hyperparameters[name] for name in SPACE}
    assert all(0.002 <= trial.hyperparameters["learning_rate"] <= 0.02 for trial in trials)

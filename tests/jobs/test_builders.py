"""The jobs that the builders make: the SDK finds nothing wrong with them, and their bodies say what was asked for."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from intermodal.errors import BadInput, Unsupported
from intermodal.jobs import (
    BestConfiguration,
    JobUnfit,
    build_final_training_config,
    create_benchmark_job,
    create_conversion_job,
    create_dry_run_sweep_job_for_backbone,
    create_final_training_job,
    create_hpo_sweep_job_for_backbone,
    get_checkpoint_output_from_training_job,
    image_environment,
    validate_final_training_job,
)

IMAGE = "name.azurecr.io/intermodal/trainer@sha256:" + "0" * 64
EXPERIMENT = Path(__file__).parents[2] / "pipelines/configs/default.yaml"
COMMON: dict[str, Any] = {"data_asset": "azureml:resumes:1", "environment": IMAGE, "compute_cluster": "gpu-cluster"}
SPACE = {
    "learning_rate": {"type": "loguniform", "min": 1e-5, "max": 5e-5},
    "batch_size": {"type": "choice", "values": [4, 8]},
    "dropout": {"type": "uniform", "min": 0.0, "max": 0.2},
    "warmup_ratio": {"type": "quniform", "min": 0.0, "max": 0.5, "q": 0.25},
}


def config(**more: Any) -> dict[str, Any]:
    return {"search_space": SPACE, "sampling": {"max_trials": 20, "max_concurrent_trials": 4}, **more}


def sweep(hpo_config: Any = None, **more: Any) -> Any:
    hpo_config = config() if hpo_config is None else hpo_config
    return create_hpo_sweep_job_for_backbone(**{**COMMON, "backbone": "distilbert", "hpo_config": hpo_config, **more})


def body(job: Any) -> Any:
    """The REST body of a job, as it goes over the wire; its assets are referred to as they will be, by id."""
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder

    job = job._to_job() if hasattr(job, "_to_job") else job
    owner = getattr(job, "trial", job)
    if not isinstance(owner.environment, str):
        owner.environment = "/environments/one"
    return json.loads(json.dumps(job._to_rest_object(), cls=SdkJSONEncoder, exclude_readonly=True))["properties"]


def round_trip(properties: Any) -> Any:
    """What Microsoft's published models make of a body."""
    from azure.mgmt.machinelearningservices import models

    return models.JobBase.deserialize({"properties": copy.deepcopy(properties)}).serialize()["properties"]


def options(command: str) -> dict[str, list[str]]:
    """The options of a command, as the step's shell splits it; what AzureML substitutes stays as it is."""
    words = shlex.split(command)
    found: dict[str, list[str]] = {}
    for flag, value in zip(words, [*words[1:], ""], strict=True):
        if flag.startswith("--"):
            found.setdefault(flag, []).append(value)
    return found


def test_a_sweep_passes_on_every_dimension_and_says_all_that_it_was_asked():
    sampling = {
        "algorithm": "sobol", "seed": 7, "max_trials": 20, "max_concurrent_trials": 4, "timeout_minutes": 480,
        "trial_timeout_minutes": 2,
    }  # fmt: skip
    job = sweep(
        config(sampling=sampling, objective={"metric": "loss", "direction": "minimize"}),
        configs={"train": {"epochs": 3, "weight_decay": 0.02, "seed": 5}},
        config_metadata={"data_hash": 17},
        aml_experiment_name="resumes",
    )
    made = body(job)
    assert made["limits"] == {
        "maxTotalTrials": 20, "maxConcurrentTrials": 4, "timeout": "PT8H", "trialTimeout": "PT2M", "jobLimitsType": "Sweep",
    }  # fmt: skip
    assert made["samplingAlgorithm"] == {"samplingAlgorithmType": "Random", "rule": "sobol", "seed": 7}
    assert made["objective"] == {"goal": "minimize", "primaryMetric": "loss"}
    assert set(made["searchSpace"]) == set(SPACE)
    assert made["experimentName"] == "resumes"
    assert made["tags"] == {"job_type": "hpo_sweep", "backbone": "distilbert", "stage": "hpo", "data_hash": "17"}
    assert made["inputs"]["backbone"]["uri"] == "distilbert@latest"  # the SDK finds a label only without the prefix
    given = options(made["trial"]["command"])
    assert set(given["--hyperparameter"]) == {f"{name}=${{{{search_space.{name}}}}}" for name in SPACE}
    assert json.loads(given["--hyperparameters"][0]) == {"weight_decay": 0.02}
    assert json.loads(given["--training"][0]) == {"epochs": 3}
    assert given["--seed"] == ["5"] and "--must-track" in given


def test_the_search_space_of_an_experiment_file_makes_a_sweep():
    from pipelines.experiment import load_experiment

    job = sweep({"search_space": load_experiment({}).search_space, "sampling": {"max_trials": 4}})
    assert set(job.search_space) == set(yaml.safe_load(EXPERIMENT.read_text())["search_space"])


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            {"policy": "bandit", "evaluation_interval": 1, "delay_evaluation": 2, "slack_factor": 0.2},
            {"policyType": "Bandit", "evaluationInterval": 1, "delayEvaluation": 2, "slackFactor": 0.2},
        ),
        ({"policy": "bandit", "slack_amount": 0.1}, {"policyType": "Bandit", "slackAmount": 0.1}),
        ({"policy": "median", "delay_evaluation": 3}, {"policyType": "MedianStopping", "delayEvaluation": 3}),
        (
            {"policy": "truncation", "truncation_percentage": 30, "evaluation_interval": 2},
            {"policyType": "TruncationSelection", "truncationPercentage": 30, "evaluationInterval": 2},
        ),
        ({"policy": "none"}, None),
    ],
)
def test_every_policy_reaches_the_service(policy, expected):
    made = body(sweep(config(early_termination=policy)))
    if expected is None:
        assert "earlyTermination" not in made
        return
    assert made["earlyTermination"].items() >= expected.items()
    assert round_trip(made)["earlyTermination"].items() >= expected.items()


@pytest.mark.parametrize("algorithm", ["random", "grid", "bayesian"])
def test_microsofts_models_keep_every_field_and_yaml_gives_the_same_job(algorithm, tmp_path):
    from azure.ai.ml import load_job

    space = {"batch_size": SPACE["batch_size"]}
    made = sweep({"search_space": space, "sampling": {"algorithm": algorithm, "max_trials": 2}})
    made.dump(tmp_path / "job.yml")
    loaded = load_job(tmp_path / "job.yml")
    ours = body(made)
    assert round_trip(ours) == ours
    theirs = body(loaded)
    theirs["inputs"]["dataset"]["uri"] = (
        "azureml:" + theirs["inputs"]["dataset"]["uri"]
    )  # the SDK reads it off, and takes both
    assert theirs["trial"].pop("environmentVariables", {}) == {}
    assert theirs == ours


def test_a_dry_run_is_short_and_never_more_than_was_configured():
    policy = {"policy": "median"}
    for trials, concurrent, expected in ((20, 4, (2, 2)), (1, 1, (1, 1))):
        sampling = {"max_trials": trials, "max_concurrent_trials": concurrent}
        job = create_dry_run_sweep_job_for_backbone(
            **COMMON,
            backbone="distilbert",
            smoke_hpo_config=config(sampling=sampling, early_termination=policy),
            configs={"train": {"epochs": 9}},
        )
        made = body(job)
        assert (made["limits"]["maxTotalTrials"], made["limits"]["maxConcurrentTrials"]) == expected
        assert "earlyTermination" not in made
        assert json.loads(options(made["trial"]["command"])["--training"][0]) == {"epochs": 1}
        assert made["tags"]["job_type"] == "dry_run_sweep"


@pytest.mark.parametrize(
    ("hpo_config", "words"),
    [
        ({"search_space": SPACE}, "sampling"),
        (config(samplin={}), "did you mean 'sampling'"),
        (config(sampling={"max_trial": 3}), "did you mean 'max_trials'"),
        (config(sampling={"max_trials": 0}), "max_trials"),
        (
            config(sampling={"max_trials": 2, "max_concurrent_trials": 3}),
            "max_concurrent_trials 3 is more than max_trials 2",
        ),
        (config(sampling={"max_trials": 2, "algorithm": "grid", "seed": 1}), "grid sampling takes no seed"),
        (config(early_termination={"policy": "bandit"}), "slack_factor or slack_amount"),
        (config(early_termination={"policy": "median", "slack_factor": 0.1}), "median takes no slack_factor"),
        (config(early_termination={"policy": "truncation", "truncation_percentage": 100}), "truncation_percentage"),
        (config(search_space={"dropuot": SPACE["dropout"]}), "did you mean 'dropout'"),
        (config(search_space={**SPACE, "backbone": {"type": "choice", "values": ["a"]}}), "one sweep for each"),
    ],
)
def test_a_bad_configuration_is_named(hpo_config, words):
    with pytest.raises(BadInput) as caught:
        sweep(hpo_config)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_bayesian_sampling_takes_no_early_termination_and_no_logarithms():
    bayesian = {"algorithm": "bayesian", "max_trials": 4}
    with pytest.raises(BadInput, match="supports no early_termination"):
        sweep(config(sampling=bayesian, early_termination={"policy": "median"}))
    with pytest.raises(Unsupported, match="learning_rate: bayesian"):
        sweep(config(sampling=bayesian))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"configs": {"training": {}}}, "'training' says nothing"),
        ({"configs": {"train": {"epoch": 3}}}, "did you mean 'epochs'"),
        ({"configs": {"train": {"epochs": -1}}}, "epochs"),
        ({"configs": {"train": {"dropout": 0.1}}}, "dropout: is searched"),
        ({"configs": {"train": {"all_data": True}}}, "nothing to choose by"),
        ({"config_metadata": {"backbone": "x"}}, "is a tag of the job itself"),
        ({"environment": "intermodal/trainer:dev"}, "has no digest"),
        ({"data_asset": "./folder"}, "ensure_data_asset_uploaded"),
        ({"compute_cluster": "serverless"}, "instance_type"),
        ({"compute_cluster": "c", "instance_type": "Standard_DS3_v2"}, "has its own"),
        ({"script_path": Path("src/train.py")}, "is not a file"),
    ],
)
def test_a_bad_argument_is_named(arguments, words):
    with pytest.raises(BadInput) as caught:
        sweep(**arguments)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_a_serverless_sweep_names_its_machine_and_a_script_of_ones_own_is_uploaded(tmp_path):
    script = tmp_path / "cli" / "train.py"
    script.parent.mkdir()
    script.write_text("print('hello')\n")
    job = sweep(script_path=script, compute_cluster=None, instance_type="Standard_DS3_v2")
    assert job.trial.code == str(script.parent)
    made = body(job)
    assert made["resources"]["instanceType"] == "Standard_DS3_v2"
    assert made["trial"]["command"].startswith("python train.py --dataset ")
    assert "computeId" not in made


BEST = BestConfiguration(
    backbone="distilbert",
    hyperparameters={"learning_rate": 2e-5, "batch_size": 4, "dropout": 0.1},
    metric="validation_macro_f1",
    value=0.9,
    trial="sweep_3",
    sweep="sweep",
    considered=4,
    trials=5,
    backbone_asset="azureml:distilbert:1",
    data_asset="azureml:resumes:1",
)


def test_the_final_training_keeps_the_tuned_batch_size_and_learns_from_all_data():
    final = build_final_training_config(BEST, {"batch_size": 16, "epochs": 5, "weight_decay": 0.02})
    assert final.hyperparameters == {"learning_rate": 2e-5, "batch_size": 4, "dropout": 0.1, "weight_decay": 0.02}
    assert final.training == {"epochs": 5, "all_data": True}
    assert final.seed == 42
    assert build_final_training_config(BEST, {"seed": 3}).seed == 3
    assert build_final_training_config(BEST, {"seed": 3}, random_seed=0).seed == 0
    made = body(create_final_training_job(**COMMON, config=final, aml_experiment_name="e"))
    given = options(made["command"])
    assert json.loads(given["--hyperparameters"][0])["batch_size"] == 4
    assert json.loads(given["--training"][0])["all_data"] is True
    assert made["inputs"]["backbone"]["uri"] == "azureml:distilbert:1"
    assert made["tags"] == {"job_type": "final_training", "backbone": "distilbert", "source_trial": "sweep_3"}
    assert round_trip(made)["command"] == made["command"]


def test_a_final_configuration_that_the_trainer_would_refuse_is_refused():
    with pytest.raises(BadInput, match="dropout"):
        build_final_training_config(BEST, {"max_tokens": 64, "stride": 16, "dropout": 2})
    with pytest.raises(BadInput, match="unknown key 'lr'"):
        build_final_training_config(BEST, {"lr": 1})


def finished(job: Any, name: str, status: str = "Completed", **paths: str) -> Any:
    """A job as the service gives it back once it has ended."""
    made = body(job)
    for port, path in paths.items():
        made["outputs"][port]["uri"] = path
    from azure.ai.ml._restclient.arm_ml_service.models import JobBase
    from azure.ai.ml.entities import Job

    rest = JobBase({"name": name, "properties": {**made, "status": status}})
    return Job._from_rest_object(rest)


MODEL = "azureml://datastores/workspaceblobstore/paths/azureml/final/model/"


def training(**more: Any) -> Any:
    return create_final_training_job(**COMMON, config=build_final_training_config(BEST, {}), **more)


def test_conversion_and_benchmark_take_what_the_jobs_before_them_left():
    trained = finished(training(), "final", model=MODEL)
    assert validate_final_training_job(trained) == MODEL
    conversion = create_conversion_job(
        training_job=trained, environment=IMAGE, compute_cluster="cpu-cluster", gate={"int8_agreement": 0.9}
    )
    made = body(conversion)
    assert {name: item["uri"] for name, item in made["inputs"].items()} == {
        "model": MODEL,
        "dataset": "azureml:resumes:1",
    }
    assert json.loads(options(made["command"])["--gate"][0]) == {"int8_agreement": 0.9}
    assert made["tags"] == {"job_type": "conversion", "backbone": "distilbert", "source_job": "final"}
    bundle = "azureml://datastores/workspaceblobstore/paths/azureml/conversion/bundle/"
    converted = finished(conversion, "conversion", bundle=bundle)
    benchmark = create_benchmark_job(
        conversion_jobs=[converted], environment=IMAGE, compute_cluster="cpu-cluster", settings={"rounds": 2}
    )
    made = body(benchmark)
    assert made["inputs"]["bundle_0"]["uri"] == bundle and made["inputs"]["dataset"]["uri"] == "azureml:resumes:1"
    assert options(made["command"])["--bundle"] == ["${{inputs.bundle_0}}"]


def test_nothing_is_built_on_a_job_that_did_not_complete_or_left_nothing():
    with pytest.raises(JobUnfit, match="final: is Failed, not Completed"):
        validate_final_training_job(finished(training(), "final", "Failed", model=MODEL))
    with pytest.raises(JobUnfit, match="does not say where its output 'model'"):
        get_checkpoint_output_from_training_job(finished(training(), "final"))
    with pytest.raises(BadInput, match="rownds"):
        create_benchmark_job(
            conversion_jobs=[finished(training(), "x")], environment=IMAGE, compute_cluster="c", settings={"rownds": 1}
        )


def test_an_environment_is_what_its_digest_says():
    first, second = image_environment(IMAGE), image_environment(IMAGE.replace("0" * 64, "1" * 64))
    assert first.image == IMAGE and first.version == "1"
    assert first.name != second.name and first.name == image_environment(IMAGE).name
    with pytest.raises(BadInput, match="has no digest"):
        image_environment("intermodal/trainer:dev")

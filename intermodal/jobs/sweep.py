"""Hyperparameter sweeps on AzureML: a SweepJob over the trainer, from the search space that Optuna's search reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.backends.azureml.native_sweep import EarlyTermination
from intermodal.backends.azureml.search_space import read_search_space
from intermodal.errors import BadInput
from intermodal.jobs.parts import (
    JobUnfit,
    TrainConfig,
    as_environment,
    completed,
    folder_input,
    folder_output,
    json_option,
    place,
    read_train_config,
    start_step,
    tags_of,
    words,
)
from intermodal.jobs.search_space import azureml_search_space
from intermodal.jobs.settings import Sampling, SweepSettings, near, read_sweep_settings
from intermodal.jobs.tracking import Trial, read_trials

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Data, Environment
    from azure.ai.ml.sweep import SweepJob

DEFAULT_SEED = 42
_DRY_TRIALS = 2


def create_hpo_sweep_job_for_backbone(
    *,
    data_asset: Data | str,
    environment: Environment | str,
    compute_cluster: str | None,
    backbone: str,
    hpo_config: Mapping[str, Any] | SweepSettings,
    configs: Mapping[str, Any] | None = None,
    config_metadata: Mapping[str, Any] | None = None,
    aml_experiment_name: str | None = None,
    stage: str = "hpo",
    backbone_asset: Data | str | None = None,
    script_path: Path | None = None,
    instance_type: str | None = None,
    identity: Any = None,
) -> SweepJob:
    """Return a sweep over the trainer, to be submitted.

    data_asset: the dataset folder, as the dataset step makes it. environment: an image by digest, an Environment, or `azureml:...`.
    compute_cluster: a cluster; `serverless` or None takes `instance_type`. backbone: its name, for tags and the display name.
    backbone_asset: its folder; None takes the workspace's data asset of that name, the latest. hpo_config: see `jobs/settings.py`.
    configs: `train` holds training settings, hyperparameters that are not searched, and `seed`. config_metadata: more tags.
    script_path: a trainer of your own, run in the image in place of the one in it; its folder is uploaded.

    Every dimension of the search space is passed to the trainer. The sweep's output `model` is the best trial's.
    Raises BadInput for a configuration that cannot be, Unsupported naming a dimension that AzureML cannot express.
    """
    settings = read_sweep_settings(hpo_config)
    return _sweep(
        settings=settings,
        train=_train_config(configs),
        job_type="hpo_sweep",
        display_name=f"hpo-sweep-{backbone}",
        data_asset=data_asset,
        environment=environment,
        compute_cluster=compute_cluster,
        backbone=backbone,
        config_metadata=config_metadata,
        aml_experiment_name=aml_experiment_name,
        stage=stage,
        backbone_asset=backbone_asset,
        script_path=script_path,
        instance_type=instance_type,
        identity=identity,
    )


def create_dry_run_sweep_job_for_backbone(
    *,
    data_asset: Data | str,
    environment: Environment | str,
    compute_cluster: str | None,
    backbone: str,
    smoke_hpo_config: Mapping[str, Any] | SweepSettings,
    configs: Mapping[str, Any] | None = None,
    config_metadata: Mapping[str, Any] | None = None,
    aml_experiment_name: str | None = None,
    stage: str = "smoke",
    backbone_asset: Data | str | None = None,
    script_path: Path | None = None,
    instance_type: str | None = None,
    identity: Any = None,
) -> SweepJob:
    """Return a sweep that shows that the real one would run: at most two trials of one epoch each, no early termination.

    Arguments and errors as of `create_hpo_sweep_job_for_backbone`; never more trials than configured.
    """
    settings = read_sweep_settings(smoke_hpo_config)
    trials = min(_DRY_TRIALS, settings.sampling.max_trials)
    concurrent = settings.sampling.max_concurrent_trials
    sampling = settings.sampling.model_copy(
        update={"max_trials": trials, "max_concurrent_trials": min(concurrent, trials) if concurrent else None}
    )
    train = _train_config(configs)
    return _sweep(
        settings=settings.model_copy(update={"sampling": sampling, "early_termination": EarlyTermination()}),
        train=TrainConfig(train.hyperparameters, {**train.training, "epochs": 1}, train.seed),
        job_type="dry_run_sweep",
        display_name=f"dry-run-sweep-{backbone}",
        data_asset=data_asset,
        environment=environment,
        compute_cluster=compute_cluster,
        backbone=backbone,
        config_metadata=config_metadata,
        aml_experiment_name=aml_experiment_name,
        stage=stage,
        backbone_asset=backbone_asset,
        script_path=script_path,
        instance_type=instance_type,
        identity=identity,
    )


def validate_sweep_job(
    job: SweepJob, backbone: str, ml_client: MLClient, *, min_expected_trials: int = 1
) -> list[Trial]:
    """Return the trials of a finished sweep that count: they completed and logged the objective.

    Raises JobUnfit if the sweep has not completed, is of another backbone, or has fewer than `min_expected_trials` such trials.
    """
    completed(job, "sweep")
    of = (job.tags or {}).get("backbone")
    if of != backbone:
        raise JobUnfit(f"sweep {job.name}: searched for backbone {of!r}, not {backbone!r}")
    metric = objective_of(job)[0]
    trials = read_trials(ml_client, str(job.name))
    good = [trial for trial in trials if trial.status == "Completed" and metric in trial.metrics]
    if len(good) < min_expected_trials:
        logged = {name for trial in trials for name in trial.metrics}
        states = ", ".join(f"{trial.name} {trial.status}" for trial in trials) or "no trial at all"
        raise JobUnfit(
            f"sweep {job.name}: {len(good)} of {len(trials)} trials completed with {metric!r}, expected {min_expected_trials} ({states})",
            hint=None
            if not trials or metric in logged
            else f"the trials logged no {metric!r}: {near(metric, sorted(logged))}",
        )
    return good


def objective_of(job: SweepJob) -> tuple[str, str]:
    """Return a sweep's objective: the metric, and `maximize` or `minimize`. Raises JobUnfit if it has none."""
    if job.objective is None or not job.objective.primary_metric:
        raise JobUnfit(f"sweep {job.name}: has no objective")
    return str(job.objective.primary_metric), str(job.objective.goal).lower()


def _train_config(configs: Mapping[str, Any] | None) -> TrainConfig:
    for name in configs or {}:
        if name != "train":
            raise BadInput(f"configs: {name!r} says nothing to a sweep", hint="it takes 'train'")
    config = read_train_config((configs or {}).get("train"))
    if config.training.get("all_data"):
        raise BadInput(
            "configs.train all_data: leaves a sweep nothing to choose by", hint="it is for the final training"
        )
    return config


def _sweep(
    *,
    settings: SweepSettings,
    train: TrainConfig,
    job_type: str,
    display_name: str,
    data_asset: Data | str,
    environment: Environment | str,
    compute_cluster: str | None,
    backbone: str,
    config_metadata: Mapping[str, Any] | None,
    aml_experiment_name: str | None,
    stage: str,
    backbone_asset: Data | str | None,
    script_path: Path | None,
    instance_type: str | None,
    identity: Any,
) -> SweepJob:
    from azure.ai.ml.entities import CommandComponent, JobResourceConfiguration
    from azure.ai.ml.sweep import Objective, SweepJob

    space: dict[str, Any] = {}
    space |= azureml_search_space(read_search_space(settings.search_space), settings.sampling.algorithm)
    for name in train.hyperparameters:
        if name in space:
            raise BadInput(
                f"configs.train {name}: is searched, so it cannot be fixed", hint="leave it out in one of them"
            )
    cluster, machine = place(compute_cluster, instance_type)
    step = start_step("components.trainer", script_path)
    inputs: dict[str, Any] = {
        "dataset": folder_input(data_asset, "data_asset"),
        "backbone": folder_input(backbone_asset or f"azureml:{backbone}@latest", "backbone_asset"),
    }
    command = words(
        [
            step.command,
            "--dataset ${{inputs.dataset}} --backbone ${{inputs.backbone}} --model ${{outputs.model}}",
            json_option("--hyperparameters", dict(train.hyperparameters)),
            json_option("--training", dict(train.training)),
            *(f"--hyperparameter {name}=${{{{search_space.{name}}}}}" for name in space),
            f"--seed {DEFAULT_SEED if train.seed is None else train.seed}",
            "--must-track",
        ]
    )
    folders = {"type": "uri_folder"}
    trial = CommandComponent(
        name="trainer",
        display_name="trainer",
        command=command,
        code=step.code,
        environment=as_environment(environment),
        inputs={name: dict(folders) for name in inputs},
        outputs={"model": dict(folders)},
    )
    return SweepJob(
        trial=trial,
        search_space=space,
        sampling_algorithm=_sampling(settings.sampling),
        objective=Objective(goal=settings.objective.direction, primary_metric=settings.objective.metric),
        limits=_limits(settings.sampling),
        early_termination=_policy(settings.early_termination),
        inputs=inputs,
        outputs={"model": folder_output()},
        compute=cluster,
        resources=JobResourceConfiguration(instance_type=machine) if machine else None,
        display_name=display_name,
        experiment_name=aml_experiment_name,
        tags=tags_of(job_type, backbone, stage, config_metadata),
        identity=identity,
    )


def _sampling(sampling: Sampling) -> Any:
    from azure.ai.ml.sweep import BayesianSamplingAlgorithm, GridSamplingAlgorithm, RandomSamplingAlgorithm

    if sampling.algorithm == "grid":
        return GridSamplingAlgorithm()
    if sampling.algorithm == "bayesian":
        return BayesianSamplingAlgorithm()
    return RandomSamplingAlgorithm(rule=sampling.algorithm, seed=sampling.seed)


def _limits(sampling: Sampling) -> Any:
    from azure.ai.ml.sweep import SweepJobLimits

    def seconds(minutes: int | None) -> int | None:
        return None if minutes is None else minutes * 60

    return SweepJobLimits(
        max_total_trials=sampling.max_trials,
        max_concurrent_trials=sampling.max_concurrent_trials,
        timeout=seconds(sampling.timeout_minutes),
        trial_timeout=seconds(sampling.trial_timeout_minutes),
    )


def _policy(wanted: EarlyTermination) -> Any:
    from azure.ai.ml.sweep import BanditPolicy, MedianStoppingPolicy, TruncationSelectionPolicy

    when: dict[str, Any] = {
        "evaluation_interval": wanted.evaluation_interval,
        "delay_evaluation": wanted.delay_evaluation,
    }
    own = {name: getattr(wanted, name) for name in ("slack_factor", "slack_amount", "truncation_percentage")}
    when |= {name: value for name, value in own.items() if value is not None}
    made = {"bandit": BanditPolicy, "median": MedianStoppingPolicy, "truncation": TruncationSelectionPolicy}
    return made[wanted.policy](**when) if wanted.policy in made else None

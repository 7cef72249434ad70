"""The final training: the best configuration of a sweep, trained on all that the sweep had split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.errors import BadInput
from intermodal.jobs.parts import (
    JobUnfit,
    as_environment,
    check_training,
    completed,
    folder_input,
    folder_output,
    json_option,
    output_address,
    place,
    read_train_config,
    start_step,
    tags_of,
    words,
)
from intermodal.jobs.selection import BestConfiguration
from intermodal.jobs.sweep import DEFAULT_SEED

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Command, Data, Environment, Job

JOB_TYPE = "final_training"
MODEL = "model"
"""Output of a training job: the model folder."""


@dataclass(frozen=True)
class FinalTrainingConfig:
    """What the final training runs with; JSON values."""

    backbone: str
    hyperparameters: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int
    backbone_asset: str | None = None
    source: str = ""
    """The trial that it comes from."""


def build_final_training_config(
    best_config: BestConfiguration,
    train_config: Mapping[str, Any] | None = None,
    random_seed: int | None = None,
    *,
    all_data: bool = True,
) -> FinalTrainingConfig:
    """Return the final training's configuration: the winner's hyperparameters, batch size and all, over `train_config`.

    `train_config` is a flat mapping of training settings (epochs, max_tokens, ...), hyperparameters and `seed`; where the winner was
    trained with another value, the winner's counts. With `all_data` it learns from the validation documents too, for all
    `epochs`; nothing is left to stop early by. Seed: `random_seed`, else the configuration's, else 42. Raises BadInput.
    """
    given = read_train_config(train_config)
    hyperparameters = {**given.hyperparameters, **best_config.hyperparameters}
    training = {**given.training, "all_data": all_data}
    check_training(hyperparameters, training)
    seeds = (random_seed, given.seed, DEFAULT_SEED)
    return FinalTrainingConfig(
        backbone=best_config.backbone,
        hyperparameters=hyperparameters,
        training=training,
        seed=next(seed for seed in seeds if seed is not None),
        backbone_asset=best_config.backbone_asset,
        source=best_config.trial,
    )


def create_final_training_job(
    *,
    data_asset: Data | str,
    environment: Environment | str,
    compute_cluster: str | None,
    config: FinalTrainingConfig,
    aml_experiment_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    backbone_asset: Data | str | None = None,
    script_path: Path | None = None,
    instance_type: str | None = None,
    identity: Any = None,
) -> Command:
    """Return the job of the final training; its output `model` is the model folder. Raises BadInput.

    `backbone_asset`: None takes the one that the sweep had. The other arguments as of `create_hpo_sweep_job_for_backbone`.
    """
    from azure.ai.ml import command

    start = backbone_asset or config.backbone_asset
    if not start:
        raise BadInput(f"backbone {config.backbone}: nothing says where its folder is", hint="give backbone_asset")
    cluster, machine = place(compute_cluster, instance_type)
    step = start_step("components.trainer", script_path)
    text = words(
        [
            step.command,
            "--dataset ${{inputs.dataset}} --backbone ${{inputs.backbone}} --model ${{outputs.model}}",
            json_option("--hyperparameters", dict(config.hyperparameters)),
            json_option("--training", dict(config.training)),
            f"--seed {config.seed}",
            "--executor-output ${{outputs.metrics}}/metrics.json",
        ]
    )
    more = {**(tags or {}), **({"source_trial": config.source} if config.source else {})}
    return command(
        display_name=f"final-training-{config.backbone}",
        command=text,
        code=step.code,
        environment=as_environment(environment),
        inputs={"dataset": folder_input(data_asset, "data_asset"), "backbone": folder_input(start, "backbone_asset")},
        outputs={MODEL: folder_output(), "metrics": folder_output()},
        compute=cluster,
        instance_type=machine,
        experiment_name=aml_experiment_name,
        tags=tags_of(JOB_TYPE, config.backbone, None, more),
        identity=identity,
    )


def validate_final_training_job(job: Job, ml_client: MLClient | None = None) -> str:
    """Return where the model of a finished final training lies. Raises JobUnfit unless it completed, is one, and left a model."""
    completed(job, "final training")
    kind = (job.tags or {}).get("job_type")
    if kind != JOB_TYPE:
        raise JobUnfit(f"job {job.name}: is {kind or 'of no type'}, not {JOB_TYPE}")
    return get_checkpoint_output_from_training_job(job, ml_client)


def get_checkpoint_output_from_training_job(job: Job, ml_client: MLClient | None = None) -> str:
    """Return where a completed training's model folder lies, as the input of another job. Raises JobUnfit.

    With `ml_client`, what the job itself does not say is looked up in the workspace; nothing is ever guessed.
    """
    return output_address(job, MODEL, ml_client)

"""After the training: conversion to ONNX, and the benchmark of what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.benchmarker.settings import parse_settings
from components.converter.builds import parse_conversion
from components.converter.tolerances import parse_tolerances
from components.kfp_io import StepError
from intermodal.errors import BadInput
from intermodal.jobs.parts import (
    as_environment,
    folder_input,
    folder_output,
    input_address,
    json_option,
    output_address,
    place,
    start_step,
    tags_of,
    words,
)
from intermodal.jobs.training import get_checkpoint_output_from_training_job

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Command, Data, Environment, Job

BUNDLE = "bundle"
"""Output of a conversion job: the ONNX files with all that is needed to use them."""


def create_conversion_job(
    *,
    training_job: Job,
    environment: Environment | str,
    compute_cluster: str | None,
    data_asset: Data | str | None = None,
    gate: Mapping[str, Any] | None = None,
    conversion: Mapping[str, Any] | None = None,
    aml_experiment_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    ml_client: MLClient | None = None,
    script_path: Path | None = None,
    instance_type: str | None = None,
    identity: Any = None,
) -> Command:
    """Return the job that exports a completed training's model to ONNX, FP32 and INT8; its output `bundle` holds what passed the gate.

    `data_asset`: the dataset whose validation split the gate measures on; None takes what the training read. `gate`: tolerances,
    `conversion`: builds, both as components/converter has them. If no FP32 build agrees with PyTorch, the job fails; INT8 builds that
    do not are left out and reported. Raises JobUnfit if the training has no model, BadInput for a bad argument.
    """
    from azure.ai.ml import command

    _checked(parse_tolerances, gate)
    _checked(parse_conversion, conversion)
    model = get_checkpoint_output_from_training_job(training_job, ml_client)
    dataset = _dataset(data_asset, training_job)
    cluster, machine = place(compute_cluster, instance_type)
    step = start_step("components.converter", script_path)
    backbone = str((training_job.tags or {}).get("backbone", ""))
    return command(
        display_name=f"conversion-{backbone}" if backbone else "conversion",
        command=words(
            [
                step.command,
                "--model ${{inputs.model}} --dataset ${{inputs.dataset}} --bundle ${{outputs.bundle}}",
                json_option("--gate", dict(gate or {})),
                json_option("--conversion", dict(conversion or {})),
                "--report ${{outputs.report}}/report.md --executor-output ${{outputs.report}}/metrics.json",
            ]
        ),
        code=step.code,
        environment=as_environment(environment),
        inputs={"model": folder_input(model, "model"), "dataset": folder_input(dataset, "data_asset")},
        outputs={BUNDLE: folder_output(), "report": folder_output()},
        compute=cluster,
        instance_type=machine,
        experiment_name=aml_experiment_name or training_job.experiment_name,
        tags=tags_of("conversion", backbone, None, {**(tags or {}), "source_job": training_job.name}),
        identity=identity,
    )


def create_benchmark_job(
    *,
    conversion_jobs: Sequence[Job],
    environment: Environment | str,
    compute_cluster: str | None,
    data_asset: Data | str | None = None,
    settings: Mapping[str, Any] | None = None,
    aml_experiment_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    ml_client: MLClient | None = None,
    script_path: Path | None = None,
    instance_type: str | None = None,
    identity: Any = None,
) -> Command:
    """Return the job that measures every variant of the bundles of completed conversions, one a backbone, on one machine.

    Its output `benchmark` holds benchmark.json and report.md: latency, throughput, and the scores of the very files that were timed.
    `data_asset`: None takes what the conversions read. `settings`: as components/benchmarker has them. Raises JobUnfit, BadInput.
    """
    from azure.ai.ml import command

    if not conversion_jobs:
        raise BadInput("conversion_jobs: there is nothing to measure")
    _checked(parse_settings, settings)
    bundles = {f"bundle_{number}": output_address(job, BUNDLE, ml_client) for number, job in enumerate(conversion_jobs)}
    dataset = _dataset(data_asset, *conversion_jobs)
    cluster, machine = place(compute_cluster, instance_type)
    step = start_step("components.benchmarker", script_path)
    names = [str((job.tags or {}).get("backbone", "")) for job in conversion_jobs]
    inputs = {name: folder_input(path, name) for name, path in bundles.items()}
    return command(
        display_name="benchmark",
        command=words(
            [
                step.command,
                "--dataset ${{inputs.dataset}}",
                *(f"--bundle ${{{{inputs.{name}}}}}" for name in bundles),
                json_option("--settings", dict(settings or {})),
                "--benchmark ${{outputs.benchmark}}/benchmark.json --report ${{outputs.benchmark}}/report.md",
                "--executor-output ${{outputs.benchmark}}/metrics.json",
            ]
        ),
        code=step.code,
        environment=as_environment(environment),
        inputs={**inputs, "dataset": folder_input(dataset, "data_asset")},
        outputs={"benchmark": folder_output()},
        compute=cluster,
        instance_type=machine,
        experiment_name=aml_experiment_name or conversion_jobs[0].experiment_name,
        tags=tags_of("benchmark", ",".join(name for name in names if name), None, tags),
        identity=identity,
    )


def _dataset(given: Data | str | None, *jobs: Job) -> Data | str:
    """Return the dataset: the one given, or the one that all the jobs read. Raises BadInput."""
    if given is not None:
        return given
    read = {input_address(job, "dataset") for job in jobs}
    if len(read) != 1 or None in read:
        named = ", ".join(str(job.name) for job in jobs)
        raise BadInput(f"{named}: do not tell one dataset that they read", hint="give data_asset")
    return str(next(iter(read)))


def _checked(parse: Any, values: Mapping[str, Any] | None) -> None:
    try:
        parse(dict(values or {}))
    except StepError as error:
        raise BadInput(error.message, hint=error.hint) from error

"""What all job builders share: from the caller's words to inputs, environments and places as `azure.ai.ml` takes them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.kfp_io import StepError
from components.trainer.settings import (
    HYPERPARAMETER_NAMES,
    TRAINING_NAMES,
    parse_hyperparameters,
    parse_training,
)
from intermodal.errors import BadInput, ExitCode, IntermodalError
from intermodal.jobs.assets import image_environment
from intermodal.jobs.settings import near

if TYPE_CHECKING:
    from azure.ai.ml import Input, Output
    from azure.ai.ml.entities import Data, Environment

SERVERLESS = "serverless"


class JobUnfit(IntermodalError):
    """A job is not what the caller takes it for: it has not completed, or lacks what it should have."""

    exit_code = ExitCode.RUN_FAILED


@dataclass(frozen=True)
class Step:
    """How a step is started: `code` is a folder to upload, None where the image has all of it."""

    command: str
    code: str | None


def start_step(module: str, script_path: Path | None) -> Step:
    """Return how a step is started: by its module in the image or, if there is a script, by that. Raises BadInput if it is missing."""
    if script_path is None:
        return Step(f"python -m {module}", None)
    if not script_path.is_file():
        raise BadInput(f"script_path {script_path}: is not a file", hint=f"leave it out: the image has {module}")
    return Step(f"python {shlex.quote(script_path.name)}", str(script_path.parent.resolve()))


def json_option(flag: str, value: Any) -> str:
    """Return an option whose value is JSON, quoted for the shell. Raises BadInput for what AzureML would substitute."""
    text = json.dumps(value, sort_keys=True)
    if "${{" in text or "{inputs." in text or "{outputs." in text or "{search_space." in text:
        raise BadInput(f"{flag}: AzureML would replace a part of {text}")
    return f"{flag} {shlex.quote(text)}"


def folder_input(asset: Data | str, what: str) -> Input:
    """Return a folder that the job reads. Raises BadInput if it does not name one in the workspace or at an address."""
    from azure.ai.ml import Input

    return Input(type="uri_folder", path=address(asset, what), mode="ro_mount")


def address(asset: Data | str, what: str) -> str:
    """Return an asset as a job refers to it: `azureml:<name>:<version>`, or an address. Raises BadInput."""
    if isinstance(asset, str):
        if asset.startswith("azureml:") and "@" in asset and "/" not in asset:
            return asset.removeprefix("azureml:")  # the SDK finds a label only without it
        if asset.startswith(("azureml:", "/subscriptions/")) or "://" in asset:
            return asset
        raise BadInput(
            f"{what} {asset!r}: is no asset of the workspace and no address",
            hint="ensure_data_asset_uploaded(ml_client, name, folder) makes an asset of a local folder",
        )
    if not asset.name or not asset.version:
        raise BadInput(f"{what}: the data asset has no name and version yet", hint="register or upload it first")
    return f"azureml:{asset.name}:{asset.version}"


def folder_output() -> Output:
    """Return an output folder. It is uploaded when the step has ended: a mount knows neither rename nor append."""
    from azure.ai.ml import Output

    return Output(type="uri_folder", mode="upload")


def as_environment(environment: Environment | str) -> Environment | str:
    """Return an environment: the caller's own, a registered one (`azureml:...`), or one of an image by digest. Raises BadInput."""
    if not isinstance(environment, str) or environment.startswith(("azureml:", "/subscriptions/")):
        return environment
    return image_environment(environment)


def tags_of(job_type: str, backbone: str, stage: str | None, more: Mapping[str, Any] | None) -> dict[str, str]:
    """Return a job's tags. Raises BadInput if `more` would overwrite one that selection reads."""
    own = {"job_type": job_type, "backbone": backbone} | ({"stage": stage} if stage else {})
    for name in more or {}:
        if name in own:
            raise BadInput(f"config_metadata {name}: is a tag of the job itself")
    return own | {str(name): str(value) for name, value in (more or {}).items()}


@dataclass(frozen=True)
class TrainConfig:
    """A training's configuration, checked: what is fixed of the hyperparameters, and the settings. All are JSON values."""

    hyperparameters: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int | None = None


def read_train_config(values: Mapping[str, Any] | None) -> TrainConfig:
    """Return a flat mapping of hyperparameters, training settings and `seed`. Raises BadInput naming the key and the closest one.

    What is both (gradient_accumulation, warmup_ratio, layer_decay, ...) is a setting: a hyperparameter goes before it.
    """
    given = dict(values or {})
    seed = given.pop("seed", None)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise BadInput(f"train_config seed: expected a whole number, got {seed!r}")
    known = (*TRAINING_NAMES, *HYPERPARAMETER_NAMES, "seed")
    for name in given:
        if name not in known:
            raise BadInput(f"train_config: unknown key {name!r}", hint=near(str(name), known))
    training = {name: value for name, value in given.items() if name in TRAINING_NAMES}
    fixed = {name: value for name, value in given.items() if name not in TRAINING_NAMES}
    check_training(fixed, training)
    return TrainConfig(fixed, training, seed)


def check_training(hyperparameters: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Raise BadInput for what the trainer would refuse."""
    try:
        parse_hyperparameters(hyperparameters, parse_training(training))
    except StepError as error:
        raise BadInput(error.message, hint=error.hint) from error


def completed(job: Any, what: str) -> None:
    """Raise JobUnfit unless the job has ended well."""
    status = getattr(job.status, "value", job.status)
    if status != "Completed":
        raise JobUnfit(f"{what} {job.name}: is {status or 'not submitted'}, not Completed")


def output_address(job: Any, port: str, ml_client: Any = None) -> str:
    """Return where a completed job's output lies, as another job's input takes it.

    It is what the service says of the job or else, with a client, the data asset that AzureML makes of each output
    (`azureml_<job>_output_data_<port>`), if it is there. Raises JobUnfit if the job has not completed or has no such output.
    """
    completed(job, "job")
    outputs = dict(getattr(job, "outputs", None) or {})
    if port not in outputs:
        raise JobUnfit(f"job {job.name}: has no output {port!r}", hint=near(port, outputs))
    path = getattr(outputs[port], "path", None)
    if isinstance(path, str) and "://" in path and "${{" not in path:
        return path
    if ml_client is None:
        raise JobUnfit(
            f"job {job.name}: does not say where its output {port!r} lies", hint="give ml_client, to look it up"
        )
    from azure.core.exceptions import ResourceNotFoundError

    name = f"azureml_{job.name}_output_data_{port}"
    try:
        found = ml_client.data.get(name, version="1")
    except ResourceNotFoundError as error:
        raise JobUnfit(f"job {job.name}: its output {port!r} is not in the workspace ({name})") from error
    return f"azureml:{found.name}:{found.version}"


def input_address(job: Any, port: str) -> str | None:
    """Return what a job read at `port`, None if it says nothing of that."""
    given = dict(getattr(job, "inputs", None) or {}).get(port)
    path = getattr(given, "path", None)
    if not isinstance(path, str) or not path:
        return None
    # The SDK reads the prefix off an asset that the service names.
    return path if path.startswith(("azureml:", "/")) or "://" in path else f"azureml:{path}"


def words(parts: Iterable[str]) -> str:
    """Return a command of its parts."""
    return " ".join(part for part in parts if part)


def place(compute_cluster: str | None, instance_type: str | None) -> tuple[str | None, str | None]:
    """Return cluster and instance type. Raises BadInput unless one of them says where the job runs."""
    if compute_cluster not in (None, "", SERVERLESS):
        if instance_type:
            raise BadInput(
                f"instance_type {instance_type}: cluster {compute_cluster} has its own", hint="name one of them"
            )
        return compute_cluster, None
    if not instance_type:
        raise BadInput(
            "a serverless job needs an instance_type", hint="e.g. Standard_DS3_v2; or name a compute_cluster"
        )
    return None, instance_type

"""The variables that AzureML sets for a job's process, with the emulator's values.

Source: what its own SDKs read (azureml-core, mldesigner, azureml-mlflow) and dumps of `env` in public issues; see docs/azureml.md
for what a live workspace must settle. The tracking address is `https`, which plain MLflow understands, not `azureml`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from intermodal.backends.azureml.emulator.execution.host import Job

AUTHORITY = "/mnt/azureml/authorities.pem"
"""Where a container finds the certificates that it should trust."""
_WORKSPACE = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/.*/workspaces/(?P<name>[^/]+)",
    re.IGNORECASE,
)


def experiment_id(workspace: str, experiment: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{workspace}/experiments/{experiment}"))


def job_variables(job: Job, run: str, authority: str) -> dict[str, str]:
    """Return what a run of the job knows of itself and of the service; `authority` is a path of certificates, as the run sees it."""
    control = job.host.control
    match = _WORKSPACE.fullmatch(control.workspace)
    if match is None:
        raise ValueError(f"not a workspace: {control.workspace!r}")
    token, number = control.token(run), experiment_id(control.workspace, job.experiment)
    scope = control.workspace
    return {
        "AZUREML_RUN_ID": run,
        "AZUREML_ROOT_RUN_ID": job.name,
        "AZUREML_EXPERIMENT_NAME": job.experiment,
        "AZUREML_EXPERIMENT_ID": number,
        "AZUREML_EXPERIMENT_SCOPE": f"{scope}/experiments/{job.experiment}",
        "AZUREML_ARM_SUBSCRIPTION": match["subscription"],
        "AZUREML_ARM_RESOURCEGROUP": match["group"],
        "AZUREML_ARM_WORKSPACE_NAME": match["name"],
        "AZUREML_ARM_PROJECT_NAME": job.experiment,
        "AZUREML_WORKSPACE_SCOPE": scope,
        "AZUREML_SERVICE_ENDPOINT": control.address,
        "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": control.address,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{control.address}/discovery",
        "AZUREML_RUN_TOKEN": token,
        "MLFLOW_TRACKING_URI": f"{control.address}/mlflow/v1.0{scope}",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_RUN_ID": run,
        "MLFLOW_EXPERIMENT_ID": number,
        "MLFLOW_EXPERIMENT_NAME": job.experiment,
        "SSL_CERT_FILE": authority,
        "REQUESTS_CA_BUNDLE": authority,
        "CURL_CA_BUNDLE": authority,
    }


def port_variables(literals: Mapping[str, str], data: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that tell a process its ports: literals as they are, data and outputs as paths."""
    found = {f"AZUREML_PARAMETER_{name}": value for name, value in literals.items()}
    found |= {f"AZURE_ML_INPUT_{name}": value for name, value in {**literals, **data}.items()}
    found |= {f"AZURE_ML_OUTPUT_{name}": value for name, value in outputs.items()}
    return found | {f"AZUREML_DATAREFERENCE_{name}": value for name, value in {**data, **outputs}.items()}

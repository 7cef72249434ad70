"""What the launcher asks of AzureML while it runs: state for the Studio, secrets, when the job was made. Standard library only."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from intermodal.backends.azureml.launcher.step import say

_TIMEOUT = 20.0
_VAULT_API = "7.4"


def tag_run(tags: Mapping[str, str]) -> None:
    """Show the task's state in the Studio. Best effort: a failure is one line in the log, never the task's."""
    url = _run_url(os.environ.get("AZUREML_RUN_ID", ""))
    if url is None:
        return
    try:
        _ask("PATCH", url, os.environ["AZUREML_RUN_TOKEN"], {"tags": dict(tags)})
    except (OSError, ValueError, KeyError) as error:
        say(f"the run's tags could not be written: {error}")


def job_created() -> str:
    """Return when the pipeline job was made, as KFP writes it. Raises OSError or ValueError if the service does not say."""
    url = _run_url(os.environ.get("AZUREML_ROOT_RUN_ID", ""))
    if url is None:
        raise ValueError("this is no AzureML job")
    answer = _ask("GET", url, os.environ["AZUREML_RUN_TOKEN"], None)
    return str(answer["createdUtc"]).split(".")[0].rstrip("Z") + "Z"


def read_secret(vault: str, name: str, version: str) -> str:
    """Return a Key Vault secret, with the identity of the compute. Raises OSError or ValueError; no message holds a value."""
    token = _vault_token()
    url = f"{vault.rstrip('/')}/secrets/{name}/{version}".rstrip("/") + f"?api-version={_VAULT_API}"
    return str(_ask("GET", url, token, None)["value"])


def _vault_token() -> str:
    """Ask the managed identity's endpoint, as azure-identity's ManagedIdentityCredential does."""
    resource = "https://vault.azure.net"
    endpoint, secret = os.environ.get("MSI_ENDPOINT"), os.environ.get("MSI_SECRET")
    client = os.environ.get("DEFAULT_IDENTITY_CLIENT_ID", "")
    if endpoint and secret:
        url = f"{endpoint}?resource={resource}&api-version=2017-09-01" + (f"&clientid={client}" if client else "")
        headers = {"secret": secret}
    else:
        url = f"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}"
        url += f"&client_id={client}" if client else ""
        headers = {"Metadata": "true"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
        return str(json.load(answer)["access_token"])


def _run_url(run: str) -> str | None:
    try:
        endpoint = os.environ["AZUREML_SERVICE_ENDPOINT"]
        workspace = (
            f"/subscriptions/{os.environ['AZUREML_ARM_SUBSCRIPTION']}"
            f"/resourceGroups/{os.environ['AZUREML_ARM_RESOURCEGROUP']}"
            "/providers/Microsoft.MachineLearningServices"
            f"/workspaces/{os.environ['AZUREML_ARM_WORKSPACE_NAME']}"
        )
        experiment = os.environ["AZUREML_EXPERIMENT_ID"]
    except KeyError:
        return None
    return f"{endpoint}/history/v1.0{workspace}/experimentids/{experiment}/runs/{run}"


def _ask(method: str, url: str, token: str, body: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        raise OSError(f"{method} {url.split('?')[0]}: {error.code} {error.reason}") from None
    return json.loads(content) if content else {}

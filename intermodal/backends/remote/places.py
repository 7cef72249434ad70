"""From a run of the record to the place where it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from intermodal.backends.remote.contract import AZUREML, KUBEFLOW, Remote
from intermodal.backends.remote.opened import OpenRun
from intermodal.errors import BadInput


@contextmanager
def remote_of(run: OpenRun, environment: Mapping[str, str]) -> Iterator[Remote]:
    """Give the run at its place, which is asked nothing yet. Raises BadInput, EnvironmentProblem (no credential, no SDK)."""
    if run.backend == AZUREML:
        from intermodal.backends.azureml.bodies import Workspace
        from intermodal.backends.azureml.cloud import connect
        from intermodal.backends.azureml.remote import AzureMLRemote
        from intermodal.backends.azureml.service import Service

        place = run.place
        cloud, credential = connect(environment, Path(place["emulator"]) if place["emulator"] else None)
        with Service(Workspace(**place["workspace"]), cloud, credential) as service:
            yield AzureMLRemote(run, service)
    elif run.backend == KUBEFLOW:
        from intermodal.backends.kubeflow.remote import KubeflowRemote, open_client
        from intermodal.backends.kubeflow.settings import KubeflowSettings

        yield KubeflowRemote(run, open_client(KubeflowSettings(**run.place)))
    else:
        raise BadInput(f"run {run.id}: backend {run.backend!r} is no place that runs are sent to")

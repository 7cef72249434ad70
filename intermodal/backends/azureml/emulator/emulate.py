"""The emulator whole: the control plane with the executor that runs jobs on a backend; and a job file from its YAML to its end."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.backends.azureml.emulator.contract import ENDED, Executor
from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.emulator.jobs import cancel_job
from intermodal.backends.azureml.emulator.plane import Plane, running
from intermodal.backends.azureml.emulator.records import Run
from intermodal.engine.backend import Backend
from intermodal.errors import BadInput, EnvironmentProblem

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_BREATH = 0.1
"""Seconds in which changes gather: a wide pipeline has thousands."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FAULT = re.compile(r'"message": "(.*?)",\s*"path": "?(.*?)"?,\s*"value"')


@contextmanager
def emulating(folder: Path, backend: Backend, options: Options | None = None, **of_running: Any) -> Iterator[Plane]:
    """Open the workspace of a folder whose jobs really run, on a backend; the backend is closed at the end.

    What `plane.running` takes beside the executor can be given. Containers of the Docker engine reach run history and MLflow at the
    gateway of its bridge network, if it has one. Raises EnvironmentProblem and BadInput.
    """
    if backend.name == "docker":
        of_running.setdefault("container_host", _gateway())

    def make(plane: Plane) -> Executor:
        executor = JobExecutor(plane, backend, plane.folder / "jobs", options)
        executor.prepare()
        return executor

    try:
        with running(folder, make, **of_running) as plane:
            yield plane
    finally:
        backend.close()


def _gateway() -> str:
    """Return this machine's address in the network of the engine's containers.

    Empty if there is no bridge network, or if the engine has a machine of its own: jobs then run without run history and MLflow.
    """
    import docker.errors

    from intermodal.backends.docker.client import connect as connect_engine

    client = connect_engine(timeout=30)
    try:
        if "Docker Desktop" in str(client.info().get("OperatingSystem")):
            return ""
        found = client.inspect_network("bridge")["IPAM"]["Config"] or [{}]
        return str(found[0].get("Gateway", ""))
    except docker.errors.NotFound:
        return ""
    finally:
        client.close()


def load_job_file(path: Path) -> Any:
    """Return the job of a YAML file, read by Microsoft's own package. Raises BadInput with its words."""
    try:
        from azure.ai.ml import load_job
        from azure.ai.ml.exceptions import MlException
        from marshmallow.exceptions import MarshmallowError
    except ImportError as error:
        raise EnvironmentProblem(
            f"job files need the Python package {error.name}", hint="pip install 'intermodal[emulator]'"
        ) from error
    logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)  # it calls parts of itself experimental, at each start
    try:
        return load_job(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    except (MlException, MarshmallowError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: {_words(error)}") from error


def submit_job(client: MLClient, job: Any, path: Path) -> str:
    """Submit a job to the workspace and return its name. Raises BadInput with the service's words."""
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress, and colours on whatever it is
            return str(client.jobs.create_or_update(job).name)
    except HttpResponseError as error:
        raise BadInput(f"{path}: {error.error.message if error.error else error.message}") from error
    except (MlException, AzureError, ValueError) as error:
        raise BadInput(f"{path}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """Return what the SDK says in few words: its messages are coloured, and some are whole pages around a field and its fault."""
    text = _COLOUR.sub("", str(error))
    if faults := _FAULT.findall(text):
        return "; ".join(f"{path or 'the file'}: {message}" for message, path in faults)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


def follow(plane: Plane, name: str, tell: Callable[[Run], None]) -> Run:
    """Tell each change of state of a job and of the runs below it until the job has ended, and return it as it is then."""
    known: dict[str, str] = {}
    while True:
        job = plane.records.run(name)
        for run in [*plane.records.below(name), job]:
            if known.get(run.id) != run.status:
                known[run.id] = run.status
                tell(run)
        if job.status in ENDED:
            return job
        plane.wait_for_change(1.0)
        time.sleep(_BREATH)


def cancel(plane: Plane, name: str) -> None:
    """Stop a job and wait for its end."""
    cancel_job(plane.space, plane.records.run(name))
    plane.wait(name, 600)

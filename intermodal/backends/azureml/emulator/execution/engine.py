"""The executor on this machine's Docker engine, and where its containers find the control plane."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from intermodal.backends.azureml.emulator.contract import ControlPlane
from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.docker import DockerBackend
from intermodal.backends.docker.client import CONNECTION_ERRORS, connect
from intermodal.errors import EnvironmentProblem


def bridge_gateway() -> str:
    """Return this machine's address on the engine's bridge, where containers reach it; empty if the engine is not on this machine.

    That is so with Docker Desktop, whose engine has a machine of its own: jobs run there, but do not reach run history and MLflow.
    Raises EnvironmentProblem if no engine answers.
    """
    client = connect()
    try:
        if "Docker Desktop" in str(client.info().get("OperatingSystem")):
            return ""
        configs = client.inspect_network("bridge")["IPAM"]["Config"] or []
    except CONNECTION_ERRORS as error:
        raise EnvironmentProblem("the Docker engine stopped answering") from error
    finally:
        client.close()
    return next((str(item["Gateway"]) for item in configs if item.get("Gateway")), "")


def on_docker(folder: Path, options: Options | None = None) -> Callable[[ControlPlane], JobExecutor]:
    """Return what makes the executor for a control plane; `folder` is for what jobs download and print.

    Calling it raises EnvironmentProblem if no engine answers.
    """

    def make(control: ControlPlane) -> JobExecutor:
        executor = JobExecutor(control, DockerBackend(), folder, options or Options(cores=os.cpu_count() or 1))
        executor.prepare()
        return executor

    return make

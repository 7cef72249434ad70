"""The executor: takes jobs, runs each on a thread of its own, and tells the control plane what becomes of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.emulator.contract import Change, ControlPlane
from intermodal.backends.azureml.emulator.execution.bodies import component_command, given, job_command, overrides, pick
from intermodal.backends.azureml.emulator.execution.command import Known, Outcome, Running, Task
from intermodal.backends.azureml.emulator.execution.flat import flatten
from intermodal.backends.azureml.emulator.execution.host import Host, Job, Options
from intermodal.backends.azureml.emulator.execution.pipeline import PipelineRun
from intermodal.backends.azureml.emulator.execution.sweep import Sweeping
from intermodal.engine.backend import Backend
from intermodal.errors import BadInput, EnvironmentProblem, IntermodalError, Unsupported, one_line


class JobExecutor:
    """Implements `Executor` of the contract on a backend. `prepare` before the first job."""

    def __init__(self, control: ControlPlane, backend: Backend, folder: Path, options: Options | None = None) -> None:
        """`folder` holds what jobs download and print; with the Docker backend the engine must see it."""
        chosen = options or Options(cores=os.cpu_count() or 1)
        slots = threading.BoundedSemaphore(chosen.cores)
        self._host = Host(control, backend, folder.resolve(), chosen, slots)
        self._jobs: dict[str, tuple[Job, threading.Thread]] = {}
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Check that jobs can run here. Raises EnvironmentProblem."""
        self._host.folder.mkdir(parents=True, exist_ok=True)
        self._host.backend.prepare(self._host.folder)
        bundle = self._host.folder / "authorities.pem"
        bundle.write_bytes(_public_authorities() + b"\n" + self._host.control.authority.read_bytes())
        bundle.chmod(0o644)

    def submit(self, name: str, body: Mapping[str, Any]) -> None:
        """Run a job in the background."""
        properties = body.get("properties") or body
        experiment = str(pick(properties, "experiment_name", "Default"))
        folder = self._host.folder / "jobs" / re.sub(r"[^\w.-]+", "-", name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        job = Job(self._host, name, experiment, folder)
        thread = threading.Thread(target=self._run, args=(job, properties), name=f"emulator-{name}")
        with self._lock:
            self._jobs[name] = (job, thread)
        thread.start()

    def cancel(self, name: str) -> None:
        """Stop a job's containers. A job that is unknown or has ended stays as it is."""
        with self._lock:
            found = self._jobs.get(name)
        if found is not None and found[1].is_alive():
            found[0].cancel()

    def close(self) -> None:
        """Stop all jobs and wait until their containers are gone."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job, thread in jobs:
            if thread.is_alive():
                job.cancel()
        for _, thread in jobs:
            thread.join()
        self._host.backend.close()

    def _run(self, job: Job, properties: Mapping[str, Any]) -> None:
        control = self._host.control
        try:
            outcome = self._outcome(job, properties)
        except IntermodalError as error:
            outcome = Outcome({}, error.message)
        except Exception as error:  # noqa: BLE001 - a defect of the emulator ends the job as failed and is said
            outcome = Outcome({}, one_line(f"internal error: {error!r}"))
        finally:
            shutil.rmtree(job.folder / "data", ignore_errors=True)
            with contextlib.suppress(EnvironmentProblem):
                self._host.backend.cleanup(job.name)
        control.change(job.name, outcome.change)

    def _outcome(self, job: Job, properties: Mapping[str, Any]) -> Outcome:
        kind = str(pick(properties, "job_type", "")).lower()
        if kind == "pipeline":
            flat = flatten(properties, self._host.control.component)
            self._host.control.change(job.name, Change("Running"))
            return PipelineRun(job, flat, properties).run()
        if kind == "command":
            return Running(job, self._task(job, properties)).run()
        if kind == "sweep":
            trial = {
                **(properties.get("trial") or {}),
                "inputs": properties.get("inputs"),
                "outputs": properties.get("outputs"),
            }
            return Sweeping(job, self._task(job, trial), properties).run()
        raise Unsupported(f"job {job.name}: type {kind!r}; the emulator runs command, pipeline and sweep jobs")

    def _task(self, job: Job, properties: Mapping[str, Any]) -> Task:
        """Return the command of a job whose inputs stand in the job itself."""
        inputs = {
            name: Known(item.text, item.uri, item.mode or "mount")
            for name, item in given(properties.get("inputs"), job.name).items()
        }
        component = pick(properties, "component_id")
        if component is None:
            command = job_command(properties, job.name)
            return Task(job.name, "job", command, inputs, command.outputs)
        try:
            command = component_command(self._host.control.component(component), properties, job.name)
        except KeyError:
            raise BadInput(f"job {job.name}: component {component!r} is not in the workspace") from None
        for name, port in command.inputs.items():
            if name not in inputs and port.default is not None:
                inputs[name] = Known(port.default)
        asked = overrides(properties.get("outputs"), job.name)
        outputs = {name: asked[name].over(port) if name in asked else port for name, port in command.outputs.items()}
        return Task(job.name, "job", command, inputs, outputs)


def _public_authorities() -> bytes:
    """Return the certificates that this machine trusts (a company's proxy may be among them): jobs still install packages."""
    import certifi

    own = (os.environ.get("SSL_CERT_FILE"), os.environ.get("REQUESTS_CA_BUNDLE"), ssl.get_default_verify_paths().cafile)
    known = (*own, "/etc/ssl/certs/ca-certificates.crt", certifi.where())
    return next(Path(path).read_bytes() for path in known if path and Path(path).is_file())

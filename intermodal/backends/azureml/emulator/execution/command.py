"""Runs one command: a command job, a node of a pipeline job, or a trial of a sweep."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.emulator.contract import Change, Status
from intermodal.backends.azureml.emulator.execution.bodies import Command, Mode, OutputPort
from intermodal.backends.azureml.emulator.execution.expressions import address, fill, references
from intermodal.backends.azureml.emulator.execution.host import Canceled, Job
from intermodal.backends.azureml.emulator.execution.images import image_of
from intermodal.backends.azureml.emulator.execution.ports import Ports, Seen, has_content, refuse_links
from intermodal.backends.azureml.emulator.execution.variables import AUTHORITY, job_variables, port_variables
from intermodal.engine.backend import Launch, Limits
from intermodal.engine.failure import AttemptFailed
from intermodal.errors import BadInput, IntermodalError, one_line

ARTIFACTS = "artifacts"
_DATASTORE = "workspaceblobstore"
_ARTIFACT_STORE = "azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid."
_SHELL = 'cd "$1" || exit; if command -v bash >/dev/null 2>&1; then exec bash -c "$2"; fi; exec sh -c "$2"'
"""The service runs a command by bash; an image without one gets its plain shell."""


@dataclass(frozen=True)
class Known:
    """What an input of a command is now: a literal's text, or an address."""

    text: str | None = None
    uri: str | None = None
    mode: Mode = "mount"


@dataclass(frozen=True)
class Task:
    """A command with all that it is given."""

    run: str
    """Id of the run."""
    path: str
    """Names it within its job, for folders, labels and messages."""
    command: Command
    inputs: Mapping[str, Known]
    outputs: Mapping[str, OutputPort]
    searched: Mapping[str, str] = field(default_factory=dict)
    """`${{search_space.x}}` -> value."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: Completed if there is no error and it was not canceled."""

    outputs: Mapping[str, str]
    """Output -> where it was published, or is to be found."""
    error: str | None = None
    canceled: bool = False

    @property
    def good(self) -> bool:
        return self.error is None and not self.canceled

    @property
    def change(self) -> Change:
        """What the control plane is to be told of the end."""
        status: Status = "Canceled" if self.canceled else "Failed" if self.error else "Completed"
        return Change(status, None if self.canceled else self.error, outputs=self.outputs)


class Running:
    """One run of a command. `run` tells the control plane each state but the last."""

    def __init__(self, job: Job, task: Task) -> None:
        self._job = job
        self._task = task
        self._folder = job.folder / "runs" / re.sub(r"[^\w.-]+", "-", task.run)
        self._ports = Ports(self._folder, task.run, job.host.backend)
        self._log = self._folder / "std_log.txt"
        self._outputs: dict[str, tuple[OutputPort, str, Seen | None]] = {}
        """Output -> (port, address, folder; None where the command gets the address itself)."""

    def run(self) -> Outcome:
        """Run it to its end; what went wrong is in the outcome."""
        try:
            return self._run()
        except Canceled:
            return Outcome({}, canceled=True)
        except AttemptFailed as error:
            return Outcome({}, error.failure.message)
        except IntermodalError as error:
            return Outcome({}, error.message)
        except Exception as error:  # noqa: BLE001 - storage or the control plane failed: the run did, and the job says why
            return Outcome({}, one_line(f"{type(error).__name__}: {error}"))
        finally:
            shutil.rmtree(self._folder / "outputs", ignore_errors=True)

    def _run(self) -> Outcome:
        self._tell(Change("Queued"))
        with self._job.slot():
            self._tell(Change("Preparing"))
            launch = self._prepare()
            self._job.check()
            self._tell(Change("Running", log=self._log))
            limit = self._task.command.timeout
            ended, late = self._job.execute(launch, limit)
            self._tell(Change("Finalizing"))
            self._open(launch)
            if late:
                error: str | None = f"did not end within {limit:g} s, its limit"
            else:
                error = ended.failure.message if ended.failure else None
            return Outcome(self._published(failed=error is not None), error)

    def _tell(self, change: Change) -> None:
        self._job.host.control.change(self._task.run, change)

    # Before

    def _prepare(self) -> Launch:
        task, host = self._task, self._job.host
        image = image_of(task.command.environment, host, task.path)
        code = self._job.fetch(task.command.code) if task.command.code else None
        work = self._ports.work(code)
        literals, data = self._given()
        outputs = {name: self._made(name, port) for name, port in task.outputs.items()}
        values = {f"inputs.{name}": value for name, value in {**literals, **data}.items()}
        values |= {f"outputs.{name}": value for name, value in outputs.items()}
        values |= {f"search_space.{name}": value for name, value in task.searched.items()}
        line = fill(task.command.line, values, task.path)
        authority = self._ports.authority(host.folder / "authorities.pem", AUTHORITY)
        env = {
            **job_variables(self._job, task.run, authority),
            **port_variables(literals, data, outputs),
            **{name: fill(value, values, task.path) for name, value in task.command.variables.items()},
        }
        return Launch(
            run_id=self._job.name,
            task=task.path,
            attempt=1,
            image=image,
            command=("/bin/sh", "-c", _SHELL),
            args=("sh", work.there, line),
            env=env,
            mounts=self._ports.mounts,
            attempt_dir=self._folder,
            log=self._log,
            limits=limits_of(task.command.resources),
            network=host.options.network,
            relax=host.options.relax,
        )

    def _given(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the text of each literal input, and the path (or the address, where that was asked for) of each data input."""
        literals: dict[str, str] = {}
        data: dict[str, str] = {}
        for name, known in self._task.inputs.items():
            port = self._task.command.inputs.get(name)
            is_data = port is not None and port.is_data
            uri = known.text if known.uri is None and is_data else known.uri
            if uri is None:
                literals[name] = known.text or ""
            elif known.mode == "direct" or not is_data:
                data[name] = uri
            else:
                data[name] = self._ports.input(name, self._fetched(name, uri))
        return literals, data

    def _fetched(self, name: str, uri: str) -> Path:
        try:
            return self._job.fetch(uri)
        except BadInput as error:  # as the service: it fails whoever reads an output that was left empty
            raise BadInput(f"input {name!r}: {error.message}") from None

    def _made(self, name: str, port: OutputPort) -> str:
        """Provide for an output; return what the command gets for it."""
        template = port.uri or f"azureml://datastores/{_DATASTORE}/paths/azureml/${{{{name}}}}/${{{{output_name}}}}/"
        given = {"name": self._task.run, "output_name": name, "default_datastore": _DATASTORE}
        uri = address(template, given)
        if port.mode == "direct":
            self._outputs[name] = (port, uri, None)
            return uri
        seen = self._ports.output(name, port, uri)
        self._outputs[name] = (port, uri, seen)
        if port.uri is not None and port.mode != "upload" and seen.here.is_dir():
            self._show_what_is_there(uri, seen.here)
        return seen.there

    def _show_what_is_there(self, uri: str, folder: Path) -> None:
        """A mounted output shows what lies at its address already."""
        fresh = self._folder / "there"
        fresh.mkdir()
        try:
            found = self._job.host.control.download(uri, fresh)
        except KeyError:
            return
        if found.is_dir():
            shutil.copytree(found, folder, dirs_exist_ok=True)

    # After

    def _open(self, launch: Launch) -> None:
        """Let this process read and remove what was written as another user. Only root needs nothing for that."""
        if os.getuid() == 0 or not self._job.host.backend.capabilities.isolates_filesystem:
            return
        command = ("chmod", "-R", "a+rwX", str(self._job.host.backend.step_root(self._folder) / "outputs"))
        opening = replace(launch, command=command, args=(), mounts=(), env={}, log=self._folder / "chmod.txt")
        self._job.execute(opening, None)

    def _published(self, *, failed: bool) -> dict[str, str]:
        """Publish the outputs; of a command that failed, those that were mounted: what was written there is there."""
        published: dict[str, str] = {}
        for name, (port, uri, seen) in self._outputs.items():
            if seen is None:
                published[name] = uri
                continue
            if name == ARTIFACTS and f"outputs.{ARTIFACTS}" not in references(self._task.command.line):
                shutil.copytree(self._work / "outputs", seen.here / "outputs", symlinks=True)
            refuse_links(name, seen.here)
            if has_content(seen.here) and not (failed and port.mode == "upload"):
                self._job.publish(seen.here, uri)
            published[name] = uri
        own = self._work / "outputs"
        if has_content(own):
            refuse_links("outputs", own)
            root = f"{_ARTIFACT_STORE}{self._task.run}"
            self._job.publish(own, f"{root}/outputs")
            published["default"] = f"{root}/"
        return published

    @property
    def _work(self) -> Path:
        return self._folder / "outputs" / "wd"


def limits_of(resources: Mapping[str, Any]) -> Limits:
    """Return the limits that a body states: `shm_size`, and `--memory`, `--cpus`, `--shm-size` of `docker_args`.

    Raises BadInput.
    """
    from intermodal.engine.resources import parse_memory

    found: dict[str, str] = {}
    words = iter(re.split(r"[\s=]+", str(resources.get("docker_args") or resources.get("dockerArgs") or "")))
    for word in words:
        if word in ("-m", "--memory", "--cpus", "--shm-size"):
            found[word] = next(words, "")
    shm = resources.get("shm_size") or resources.get("shmSize") or found.get("--shm-size")
    memory = found.get("--memory", found.get("-m"))
    return Limits(
        cpus=float(found["--cpus"]) if "--cpus" in found else None,
        memory=parse_memory(_quantity(memory), "docker_args") if memory else None,
        shm=parse_memory(_quantity(str(shm)), "shm_size") if shm else None,
    )


def _quantity(written: str) -> str:
    """Return Docker's way to write an amount (512m, 2g) as Kubernetes'."""
    match = re.fullmatch(r"(\d+)([kmgt])b?", written.strip().lower())
    return f"{match[1]}{match[2].upper()}i" if match else written.strip()

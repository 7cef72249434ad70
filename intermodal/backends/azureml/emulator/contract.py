"""What the two halves of the emulator know of each other: the control plane (what was asked, what became of it) and the executor.

The control plane keeps assets, jobs and their states and answers the client; it never runs anything. The executor runs what a
job's body says, on a `Backend`, and tells the control plane what happens. Bodies are the REST bodies as the client sent them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal[
    "NotStarted", "Queued", "Preparing", "Running", "Finalizing", "Completed", "Failed", "CancelRequested", "Canceled"
]
"""The states of a job and of each node of a pipeline job, as run history spells them."""

ENDED: frozenset[Status] = frozenset({"Completed", "Failed", "Canceled"})


@dataclass(frozen=True)
class Child:
    """A run below a job: a node of a pipeline job, or a trial of a sweep job."""

    id: str
    """Unique in the workspace."""
    parent: str
    """The job, or the pipeline node, that it belongs to."""
    root: str
    name: str
    """Name of the node in the job (`properties.jobs`), or of the trial."""
    display_name: str
    body: Mapping[str, Any]
    """The node as the job says it."""


@dataclass(frozen=True)
class Change:
    """What became of a run. Only what is given changes."""

    status: Status | None = None
    error: str | None = None
    """One line for people: what failed, and how."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Output port -> `azureml://datastores/.../paths/...`, where it was published."""
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    """What the run's processes printed; it grows until the run has ended. Shown as `user_logs/std_log.txt`."""


class ControlPlane(Protocol):
    """What the executor asks of the control plane. Methods are called from several threads."""

    address: str
    """`https://host:port` as a job's container reaches it. Below it are run history
    (`/history/v1.0{workspace}/experimentids/{any id}/runs/{run}`) and MLflow (`/mlflow/v1.0{workspace}`, then MLflow's own paths)."""
    workspace: str
    """ARM id of the workspace, `/subscriptions/.../workspaces/NAME`: a job's variables are made of it."""
    authority: Path
    """The certificate of the authority that signed the control plane's, in PEM."""

    def component(self, id: str) -> Mapping[str, Any]:
        """Return the `componentSpec` registered under an ARM id (or `azureml:name:version`). Raises KeyError."""

    def environment(self, id: str) -> Mapping[str, Any]:
        """Return the properties of a registered environment version. Raises KeyError."""

    def download(self, uri: str, folder: Path) -> Path:
        """Fetch what an address names (azureml://, a code's or data asset's ARM id, http(s)) into `folder`.

        Returns the path of the file, or of the folder that holds the files. Raises KeyError if nothing is there.
        """

    def upload(self, source: Path, uri: str) -> None:
        """Publish a file or a folder at an `azureml://datastores/.../paths/...` address."""

    def token(self, run: str) -> str:
        """Return a token with which the run's own process may write to run history and MLflow."""

    def add(self, child: Child) -> None:
        """Record a run below a job."""

    def change(self, run: str, change: Change) -> None:
        """Record what became of a job or a child."""

    def metrics(self, run: str) -> Mapping[str, float]:
        """Return the last value of each metric that the run logged by MLflow."""

    def history(self, run: str, metric: str) -> Sequence[float]:
        """Return all values of a metric that the run logged by MLflow, in the order of their coming; a sweep reads its objective here."""


class Executor(Protocol):
    """What the control plane asks of the executor. No method waits for a job."""

    def submit(self, name: str, body: Mapping[str, Any]) -> None:
        """Run a job (command, pipeline or sweep) in the background; its states come by `ControlPlane.change`.

        `body` is the request's, `{"properties": {"jobType": ..., ...}}`, whose fields are known to be right. The job is on record
        as NotStarted before this is called.
        """

    def cancel(self, name: str) -> None:
        """Stop a job's containers; it then ends as Canceled. A job that has ended stays as it is."""

    def close(self) -> None:
        """Stop all jobs and wait until their containers are gone."""

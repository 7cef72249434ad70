"""The control plane: the workspace behind its wire, and what the executor asks of it (`contract.ControlPlane`)."""

from __future__ import annotations

import fcntl
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from intermodal.backends.azureml.emulator.assets import find_asset, register_output
from intermodal.backends.azureml.emulator.azurite import Azurite, install
from intermodal.backends.azureml.emulator.blobs import Blobs, Place, datastore_path
from intermodal.backends.azureml.emulator.certificates import make_certificates
from intermodal.backends.azureml.emulator.client import Address, remove_address, write_address
from intermodal.backends.azureml.emulator.contract import ENDED, Change, Child, Executor
from intermodal.backends.azureml.emulator.dispatch import Dispatcher
from intermodal.backends.azureml.emulator.faults import Fault, Faults
from intermodal.backends.azureml.emulator.identity import Identity, load_identity
from intermodal.backends.azureml.emulator.logs import PIPELINE, Logs
from intermodal.backends.azureml.emulator.records import Records, Run
from intermodal.backends.azureml.emulator.server import Server
from intermodal.backends.azureml.emulator.tokens import make_token
from intermodal.backends.azureml.emulator.workspace import Workspace
from intermodal.errors import EnvironmentProblem

LOOPBACK = "127.0.0.1"
_ASSET_OF_RUN = re.compile(r"azureml:/*jobs/(?P<run>[^/]+)/outputs/(?P<name>[^/]+)(?:/paths/(?P<path>.*))?")

MakeExecutor = Callable[["Plane"], Executor]


class Plane:
    """A workspace that is open: a `contract.ControlPlane`. Made by `running`."""

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        workspace: Workspace,
        authority: Path,
        faults: Faults,
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.space = workspace
        self.workspace = identity.scope
        self.faults = faults
        self.authority = authority
        self.address = workspace.address
        """`https://host:port` as a job's container reaches it; that of this machine unless `container_host` was given."""
        self.records: Records = workspace.records
        self.blobs: Blobs = workspace.blobs
        self._logs = Logs(workspace.blobs)
        self._lock = threading.Lock()

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking address for programs without AzureML's plugin; use it with a token."""
        return f"{self.address}/mlflow/v1.0{self.identity.scope}"

    # What the executor asks: see contract.ControlPlane.

    def component(self, id: str) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = find_asset(self.space, id, "components").properties["componentSpec"]
        return spec

    def environment(self, id: str) -> Mapping[str, Any]:
        return find_asset(self.space, id, "environments").properties

    def download(self, uri: str, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        found = self._place(uri)
        if isinstance(found, Place):
            return self.blobs.download(found, folder)
        return _fetch(found, folder)

    def _place(self, uri: str) -> Place | str:
        """Return where an address leads: a place in the storage, or an http(s) address of elsewhere. Raises KeyError."""
        if inside := datastore_path(uri):
            return self.space.place(*inside)
        if found := _ASSET_OF_RUN.fullmatch(uri):
            output = self.records.run(found["run"]).outputs[found["name"]]
            return self._place("/".join(filter(None, (output.rstrip("/"), found["path"]))))
        if uri.startswith(("http://", "https://")):
            return self.blobs.place(uri) or uri
        for kind, address in (("codes", "codeUri"), ("data", "dataUri"), ("models", "modelUri")):
            try:
                asset = find_asset(self.space, uri, kind)
            except KeyError:
                continue
            return self._place(str(asset.properties[address]))
        raise KeyError(uri)

    def upload(self, source: Path, uri: str) -> None:
        inside = datastore_path(uri)
        if inside is None:
            raise KeyError(uri)
        self.blobs.upload(source, self.space.place(*inside))

    def token(self, run: str) -> str:
        return make_token(self.identity, self.space.address, run=run, lifetime=7 * 86400)[0]

    def add(self, child: Child) -> None:
        root = self.records.run(child.root)
        self.records.add_run(
            Run(
                id=child.id,
                kind="child",
                root=child.root,
                parent=child.parent,
                node=child.name,
                display_name=child.display_name or child.name,
                experiment=root.experiment,
                body=child.body,
                created=time.time(),
                properties={"azureml.moduleName": child.name, "azureml.rootpipelinerunid": child.root},
            )
        )
        self._notify()

    def change(self, run: str, change: Change) -> None:
        before = self.records.run(run)
        if change.log is not None:
            self._logs.follow(run, change.log)
        if change.status not in (None, before.status) and before.status not in ENDED:
            self._tell(before, str(change.status))
        if change.status in ENDED:
            self._logs.finish(run)
        after = self.records.change_run(run, change)
        if after.status == "Completed" != before.status:
            self._register(after)
        self._notify()

    def _register(self, run: Run) -> None:
        asked = run.body.get("properties", run.body).get("outputs") or {}
        for name, form in asked.items():
            if isinstance(form, Mapping) and name in run.outputs:
                register_output(self.space, form, run.outputs[name])

    def metrics(self, run: str) -> Mapping[str, float]:
        return {name: metric.value for name, metric in self.records.last_metrics(run).items()}

    def history(self, run: str, metric: str) -> Sequence[float]:
        return [item.value for item in self.records.metric_history(run, metric)]

    # What others may ask.

    def wait(self, run: str, timeout: float) -> Run:
        """Wait until a run has ended, at most so many seconds, and return it as it is then. Raises KeyError."""
        deadline = time.monotonic() + timeout
        with self.space.changed:
            while (found := self.records.run(run)).status not in ENDED and (left := deadline - time.monotonic()) > 0:
                self.space.changed.wait(min(left, 5))
        return found

    def wait_for_change(self, timeout: float) -> None:
        """Wait until something of a run has changed, at most so many seconds."""
        with self.space.changed:
            self.space.changed.wait(timeout)

    def close(self) -> None:
        self._logs.close()

    def _notify(self) -> None:
        with self.space.changed:
            self.space.changed.notify_all()

    def _tell(self, run: Run, status: str) -> None:
        """Write a line of the pipeline's own log, which clients stream."""
        if run.kind != "child" and run.body["properties"].get("jobType") != "Pipeline":
            return
        path = self.folder / "logs" / f"{run.root}.txt"
        path.parent.mkdir(exist_ok=True)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        what = f"node {run.node}" if run.kind == "child" else "pipeline"
        with self._lock, path.open("a", encoding="utf-8") as file:
            file.write(f"[{now}] {what}: {status}, run {run.id}\n")
        if self.records.run(run.root).status not in ENDED:
            self._logs.follow(run.root, path, PIPELINE)


def _fetch(address: str, folder: Path) -> Path:
    name = PurePosixPath(urlsplit(address).path).name or "download"
    target = folder / name
    try:
        with urllib.request.urlopen(address, timeout=60) as answer, target.open("wb") as file:
            while data := answer.read(2**20):
                file.write(data)
    except urllib.error.HTTPError as error:
        raise KeyError(f"{address}: {error.code} {error.reason}") from error
    return target


@contextmanager
def running(
    folder: Path,
    executor: MakeExecutor,
    *,
    tools: Path = Path(".intermodal/tools"),
    port: int = 0,
    subscription: str = "",
    group: str = "",
    workspace: str = "",
    computes: Collection[str] | None = None,
    container_host: str = "",
    faults: Sequence[Fault] = (),
) -> Iterator[Plane]:
    """Open the workspace of a folder, made if there is none, and close it at the end: no job and no process stays.

    `executor` makes the executor, given the plane. `container_host` is an address of this machine that containers reach (that of
    a Docker network's gateway): the plane listens there, too. Raises EnvironmentProblem and BadInput.
    """
    folder = folder.absolute()
    identity = load_identity(folder, subscription, group, workspace)
    script = install(tools.absolute())
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        azurite = Azurite(script, folder / "storage", identity)
        stack.callback(azurite.close)
        blobs = Blobs(identity, azurite.port)
        stack.callback(blobs.close)
        records = Records(folder / "workspace.db")
        stack.callback(records.close)
        _end_left_jobs(records)
        hosts = [LOOPBACK, "localhost", *filter(None, [container_host])]
        certificates = make_certificates(folder / "tls", hosts)
        space = Workspace(identity, records, blobs, "", computes)
        planned = Faults(faults)
        dispatcher = Dispatcher(space, planned)
        stack.callback(dispatcher.close)
        server = Server(LOOPBACK, port, certificates, dispatcher)
        stack.callback(server.close)
        space.address = f"https://{LOOPBACK}:{server.port}"
        plane = Plane(folder, identity, space, certificates.authority, planned)
        stack.callback(plane.close)
        if container_host:
            second = Server(container_host, server.port, certificates, dispatcher)
            stack.callback(second.close)
            plane.address = f"https://{container_host}:{server.port}"
        space.executor = executor(plane)
        stack.callback(space.executor.close)
        write_address(folder, Address(space.address, str(certificates.authority), f"http://{LOOPBACK}:{azurite.port}"))
        stack.callback(remove_address, folder)
        yield plane


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder for this process. Raises EnvironmentProblem if another has it."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentProblem(
                f"an emulator runs on {folder} already", hint="stop it, or choose another folder"
            ) from error
        yield


def _end_left_jobs(records: Records) -> None:
    """Say of jobs that ran when the emulator was killed what became of them: their containers' results are nowhere."""
    for run in records.living():
        records.change_run(run.id, Change(status="Failed", error="The emulator was stopped while this ran."))

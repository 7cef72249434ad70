"""What all jobs of an executor share, and what the runs of one job share: slots, folders, downloads, and the way to stop."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from intermodal.backends.azureml.emulator.contract import ControlPlane
from intermodal.engine.backend import Backend, Exit, Launch, Network, Relaxation
from intermodal.errors import BadInput

_GRACE = 1.0
"""Seconds between the request to end and the kill of a canceled container."""


class Canceled(Exception):
    """The job was canceled, or a node of it failed and nothing else is to go on."""


@dataclass(frozen=True)
class Options:
    """How jobs are run here."""

    images: Mapping[str, str] = field(default_factory=dict)
    """What runs instead of an environment: its id or name, or its image -> an image that is here. `*` stands for every other."""
    network: Network = "bridge"
    relax: frozenset[Relaxation] = frozenset({"writable-root", "root", "capabilities"})
    """What nodes are spared of the container contract; by default they are root in a writable container, as on AzureML."""
    cores: int = 1
    """Containers at once."""


@dataclass(frozen=True)
class Host:
    control: ControlPlane
    backend: Backend
    folder: Path
    options: Options
    slots: threading.BoundedSemaphore


class Job:
    """One job that was submitted: what its runs share."""

    def __init__(self, host: Host, name: str, experiment: str, folder: Path, whole: Job | None = None) -> None:
        """`whole` is the job of which this is a part that can be stopped alone."""
        self.host = host
        self._whole = whole
        self._parts: list[Job] = []
        self.name = name
        self.experiment = experiment
        self.folder = folder
        self._stopped = threading.Event()
        self._canceled = False
        self._handles: set[str] = set()
        self._fetched: dict[str, Future[Path]] = {}
        self._lock = threading.Lock()

    # Stopping

    @property
    def canceled(self) -> bool:
        """Whether somebody asked for the end, rather than a failed node."""
        return self._canceled

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set() or (self._whole is not None and self._whole.stopped)

    def cancel(self) -> None:
        self._canceled = True
        self.stop()

    def stop(self) -> None:
        """Start nothing more, and end what runs."""
        self._stopped.set()
        with self._lock:
            handles = [handle for job in (self, *self._parts) for handle in job._handles]
        stoppers = [threading.Thread(target=self.host.backend.stop, args=(handle, _GRACE)) for handle in handles]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()

    def part(self) -> Job:
        """Return a part of this job that can be stopped alone; stopping the job stops it too."""
        made = Job(self.host, self.name, self.experiment, self.folder, self)
        made._fetched, made._lock = self._fetched, self._lock
        with self._lock:
            self._parts.append(made)
        return made

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the machine's slots. Raises Canceled."""
        while not self.host.slots.acquire(timeout=0.2):
            self.check()
        try:
            self.check()
            yield
        finally:
            self.host.slots.release()

    def check(self) -> None:
        """Raise Canceled if nothing is to go on."""
        if self.stopped:
            raise Canceled

    def execute(self, launch: Launch, timeout: float | None) -> tuple[Exit, bool]:
        """Run a launch to its end; return how it ended and whether it was its timeout. Raises AttemptFailed, Canceled.

        `stop` of another thread ends it; it then raises Canceled.
        """
        backend = self.host.backend
        handle = backend.start(launch)
        with self._lock:
            self._handles.add(handle)
        late = threading.Event()

        def end() -> None:
            late.set()
            backend.stop(handle, _GRACE)

        timer = threading.Timer(timeout, end) if timeout is not None else None
        try:
            if self.stopped:
                backend.stop(handle, _GRACE)
            if timer is not None:
                timer.start()
            ended = backend.wait(handle, launch)
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._handles.discard(handle)
            backend.remove(handle)
        self.check()
        return ended, late.is_set()

    # Data

    def fetch(self, uri: str) -> Path:
        """Return what an address names, downloaded once for all runs of the job. Raises BadInput if nothing is there."""
        with self._lock:
            future = self._fetched.get(uri)
            mine = future is None
            if future is None:
                future = self._fetched[uri] = Future()
        if mine:
            folder = self.folder / "data" / hashlib.sha256(f"{uri}\0{uuid.uuid4()}".encode()).hexdigest()[:24]
            try:
                folder.mkdir(parents=True)
                future.set_result(self.host.control.download(uri, folder))
            except Exception as error:  # noqa: BLE001 - whoever waits for the same address must hear of it too
                future.set_exception(error)
        try:
            return future.result()
        except KeyError:
            raise BadInput(f"there is nothing at {uri}") from None

    def publish(self, source: Path, uri: str) -> None:
        """Upload a file or a folder; what was fetched from there before is forgotten."""
        self.host.control.upload(source, uri)
        with self._lock:
            for key in [key for key in self._fetched if key.startswith(uri) or uri.startswith(key)]:
                del self._fetched[key]

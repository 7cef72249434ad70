"""A control plane of folders: what the executor asks of one, without a server, so that the executor is tested alone."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.compile import Compiled
from intermodal.backends.azureml.emulator.contract import ENDED, Change, Child

WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


@dataclass
class Run:
    """What became of a run: its states in their order, and all that was told of it."""

    states: list[str] = field(default_factory=list)
    error: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    log: Path | None = None

    @property
    def state(self) -> str:
        return self.states[-1] if self.states else "NotStarted"


class FolderPlane:
    """Implements `ControlPlane`. Datastores are folders; like blob storage, they know no empty ones."""

    workspace = WORKSPACE

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = "https://127.0.0.1:1"
        self.authority = folder / "authority.pem"
        self.authority.parent.mkdir(parents=True, exist_ok=True)
        self.authority.write_text("")
        self.components: dict[str, Mapping[str, Any]] = {}
        self.environments: dict[str, Mapping[str, Any]] = {}
        self.assets: dict[str, Path] = {}
        """Id of a code or data asset -> its folder."""
        self.runs: dict[str, Run] = {}
        self.children: dict[str, Child] = {}
        self._lock = threading.Condition()

    def add_compiled(self, compiled: Compiled, name: str) -> dict[str, Any]:
        """Register what a compiled pipeline needs; return the body of its job."""
        files = compiled.files()
        launcher = self.folder / "code" / name
        for path, content in files.items():
            if path.startswith("launcher/"):
                file = launcher / path.removeprefix("launcher/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content, encoding="utf-8")
        for body in json.loads(files["bodies/components.json"]).values():
            spec = body["properties"]["componentSpec"]
            self.assets[spec["code"]] = launcher
            workspace = spec["code"].partition("/codes/")[0]
            self.components[f"{workspace}/components/{spec['name']}/versions/{spec['version']}"] = spec
            name = re.sub(".*/environments/|/versions/.*", "", spec["environment"])
            self.environments[spec["environment"]] = json.loads(files["bodies/environments.json"])[name]["properties"]
        job: dict[str, Any] = json.loads(files["bodies/job.json"])
        return job

    def path(self, uri: str) -> Path:
        match = re.fullmatch(r"azureml://datastores/([^/]+)/paths/(.*)", uri.rstrip("/"))
        if match is None:
            raise KeyError(uri)
        return self.folder / "store" / match[1] / match[2]

    def found(self, uri: str) -> Path | None:
        """What lies at an address, None if there is nothing."""
        path = self.path(uri)
        return path if path.exists() else None

    def content(self, uri: str) -> dict[str, str]:
        """What lies at an address: relative path -> text."""
        root = self.path(uri)
        return {str(file.relative_to(root)): file.read_text() for file in sorted(root.rglob("*")) if file.is_file()}

    # ControlPlane

    def component(self, id: str) -> Mapping[str, Any]:
        return self.components[id]

    def environment(self, id: str) -> Mapping[str, Any]:
        return self.environments[id]

    def download(self, uri: str, folder: Path) -> Path:
        source = self.assets[uri] if uri in self.assets else Path(uri) if uri.startswith("/") else self.path(uri)
        if not source.is_file() and not any(path.is_file() for path in source.rglob("*")):
            raise KeyError(uri)
        target = folder / source.name
        if source.is_file():
            shutil.copy2(source, target)
            return target
        shutil.copytree(source, target)
        return target

    def upload(self, source: Path, uri: str) -> None:
        files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
        root = self.path(uri)
        for file in files:
            target = root if file == source else root / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)

    def token(self, run: str) -> str:
        return f"token-of-{run}"

    def add(self, child: Child) -> None:
        with self._lock:
            assert child.id not in self.children
            self.children[child.id] = child
            self.runs.setdefault(child.id, Run())

    def change(self, run: str, change: Change) -> None:
        with self._lock:
            seen = self.runs.setdefault(run, Run())
            if change.status is not None and change.status != seen.state:
                assert seen.state not in ENDED, f"{run} has ended as {seen.state}, and is now {change.status}"
                seen.states.append(change.status)
            seen.error = change.error or seen.error
            seen.outputs |= change.outputs
            seen.properties |= change.properties
            seen.tags |= change.tags
            seen.log = change.log or seen.log
            self._lock.notify_all()

    def metrics(self, run: str) -> Mapping[str, float]:
        found = re.findall(r"^metric (\w+) (\S+)$", self._log(run), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def history(self, run: str, metric: str) -> Sequence[float]:
        """A run reports a metric by printing `metric NAME VALUE`."""
        return [float(value) for value in re.findall(rf"^metric {metric} (\S+)$", self._log(run), re.MULTILINE)]

    # What tests ask

    def wait(self, name: str, seconds: float = 300.0) -> Run:
        """Wait for the end of a run."""
        with self._lock:
            assert self._lock.wait_for(lambda: name in self.runs and self.runs[name].state in ENDED, seconds), self.runs
        return self.runs[name]

    def wait_for_state(self, name: str, state: str, seconds: float = 60.0) -> None:
        """Wait until a node has been in a state."""
        end = time.monotonic() + seconds
        while state not in self.nodes().get(name, Run()).states:
            assert time.monotonic() < end, self.nodes()
            time.sleep(0.05)

    def nodes(self) -> dict[str, Run]:
        """The runs below jobs by the names of their nodes, outermost first: `outer/inner`."""
        return {self._path(child): self.runs[child.id] for child in list(self.children.values())}

    def _path(self, child: Child) -> str:
        parent = self.children.get(child.parent)
        return f"{self._path(parent)}/{child.name}" if parent else child.name

    def log(self, node: str) -> str:
        return next(self._log(child.id) for child in self.children.values() if self._path(child) == node)

    def _log(self, run: str) -> str:
        path = self.runs[run].log if run in self.runs else None
        return path.read_text() if path and path.exists() else ""

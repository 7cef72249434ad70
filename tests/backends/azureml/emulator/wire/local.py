"""The simplest executor that really runs jobs: each command a process of this machine, one node after another, no images."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.emulator.contract import Change, Child, ControlPlane, Status

_HOLE = re.compile(r"\$\{\{(inputs|outputs)\.([^}]+)\}\}")
_PARENT = re.compile(r"\$\{\{parent\.(?:jobs\.(?P<node>[^.]+)\.)?(?P<side>inputs|outputs)\.(?P<port>[^}]+)\}\}")


class LocalExecutor:
    """Runs command jobs, and pipeline jobs of command nodes."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._threads: dict[str, threading.Thread] = {}
        self._cancelled: set[str] = set()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def submit(self, name: str, body: Mapping[str, Any]) -> None:
        thread = threading.Thread(target=self._job, args=(name, body["properties"]), name=f"job-{name}")
        self._threads[name] = thread
        thread.start()

    def cancel(self, name: str) -> None:
        with self._lock:
            self._cancelled.add(name)
            if process := self._processes.get(name):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        for name in self._threads:
            self.cancel(name)
        for thread in self._threads.values():
            thread.join()

    def _job(self, name: str, job: Mapping[str, Any]) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="job-") as folder:
                if job["jobType"] == "Pipeline":
                    status = self._pipeline(name, job, Path(folder))
                elif job["jobType"] != "Command":
                    status = "Failed"
                else:
                    inputs = {port: _given(form) for port, form in (job.get("inputs") or {}).items()}
                    status = self._run(name, name, job, inputs, job.get("outputs") or {}, Path(folder))
            self._plane.change(name, Change(status=status))
        except Exception as error:
            self._plane.change(name, Change(status="Failed", error=repr(error)))
            raise

    def _pipeline(self, name: str, job: Mapping[str, Any], folder: Path) -> Status:
        self._plane.change(name, Change(status="Running"))
        outputs: dict[tuple[str | None, str, str], str] = {
            (None, "inputs", port): _given(form) for port, form in (job.get("inputs") or {}).items()
        }
        left = dict(job["jobs"])
        while left:
            node = next(node for node, body in left.items() if all(key in outputs for key in _needs(body)))
            body = left.pop(node)
            spec = self._plane.component(body["componentId"])
            run = str(uuid.uuid4())
            self._plane.add(Child(run, name, name, node, body.get("display_name") or node, body))
            inputs = {port: _bound(form, outputs) for port, form in (body.get("inputs") or {}).items()}
            place = folder / node
            place.mkdir()
            parts = {"command": spec["command"], "codeId": spec.get("code")}
            status = self._run(name, run, parts, inputs, spec.get("outputs") or {}, place)
            self._plane.change(run, Change(status=status))
            if status != "Completed":
                self._plane.change(name, Change(error=f"node {node} failed" if status == "Failed" else None))
                return status
            for port in spec.get("outputs") or {}:
                outputs[(node, "outputs", port)] = _published(run, port)
                target = ((body.get("outputs") or {}).get(port) or {}).get("value", "")
                if found := _PARENT.fullmatch(str(target)):
                    self._plane.change(name, Change(outputs={found["port"]: _published(run, port)}))
        return "Completed"

    def _run(
        self,
        job: str,
        run: str,
        parts: Mapping[str, Any],
        inputs: Mapping[str, str],
        outputs: Mapping[str, Any],
        folder: Path,
    ) -> Status:
        code = folder / "code"
        code.mkdir()
        if parts.get("codeId"):
            self._plane.download(parts["codeId"], code)
        values = {("inputs", port): self._local(value, folder / "in" / port) for port, value in inputs.items()}
        for port in outputs:
            values[("outputs", port)] = str(folder / "out" / port)
            (folder / "out" / port).mkdir(parents=True)
        command = _HOLE.sub(lambda hole: values[(hole[1], hole[2])], parts["command"])
        log = folder / "log.txt"
        with log.open("wb") as file:
            with self._lock:
                if job in self._cancelled:
                    return "Canceled"
                process = subprocess.Popen(
                    ["sh", "-c", command], cwd=code, stdout=file, stderr=file, start_new_session=True
                )
                self._processes[job] = process
            self._plane.change(run, Change(status="Running", log=log))
            exit_code = process.wait()
            with self._lock:
                del self._processes[job]
        for port in outputs:
            self._plane.upload(folder / "out" / port, _published(run, port))
        found = {port: _published(run, port) for port in outputs}
        if job in self._cancelled:
            self._plane.change(run, Change(status="Canceled"))
            return "Canceled"
        error = f"the command exited with {exit_code}" if exit_code else None
        # Ended before the folder of the log goes.
        self._plane.change(run, Change(status="Failed" if error else "Completed", outputs=found, error=error))
        return "Failed" if error else "Completed"

    def _local(self, value: str, folder: Path) -> str:
        is_address = value.startswith(("azureml:", "/subscriptions/", "http://", "https://"))
        return str(self._plane.download(value, folder)) if is_address else value


def _published(run: str, port: str) -> str:
    return f"azureml://datastores/workspaceblobstore/paths/azureml/{run}/{port}/"


def _given(form: Mapping[str, Any]) -> str:
    return str(form.get("uri") or form.get("value") or "")


def _needs(body: Mapping[str, Any]) -> list[tuple[str | None, str, str]]:
    values = [str(form.get("value")) for form in (body.get("inputs") or {}).values()]
    return [(found["node"], found["side"], found["port"]) for found in map(_PARENT.fullmatch, values) if found]


def _bound(form: Mapping[str, Any], outputs: Mapping[tuple[str | None, str, str], str]) -> str:
    found = _PARENT.fullmatch(str(form.get("value")))
    return outputs[(found["node"], found["side"], found["port"])] if found else _given(form)

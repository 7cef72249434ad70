"""Runs a pipeline job: nodes as soon as what they are bound to is there, several at once, until all have ended or one has failed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from intermodal.backends.azureml.emulator.contract import Change, Child, Status
from intermodal.backends.azureml.emulator.execution.bodies import is_true, pick
from intermodal.backends.azureml.emulator.execution.command import Known, Outcome, Running, Task
from intermodal.backends.azureml.emulator.execution.flat import Flat, Leaf, Path
from intermodal.backends.azureml.emulator.execution.host import Job
from intermodal.backends.azureml.emulator.execution.sweep import Sweeping
from intermodal.errors import one_line

_AT_ONCE = 64
"""Nodes that wait for a slot or run; more are not even queued."""


class PipelineRun:
    """One pipeline job. `run` returns its outputs and what went wrong."""

    def __init__(self, job: Job, flat: Flat, properties: Mapping[str, Any]) -> None:
        self._job = job
        self._flat = flat
        settings = properties.get("settings") or {}
        self._goes_on = is_true(pick(settings, "continue_on_step_failure", False))
        self._ids = {path: str(uuid.uuid4()) for path in (*flat.groups, *flat.leaves)}
        self._left = dict(flat.leaves)
        self._done: dict[Path, Outcome] = {}
        self._begun: set[Path] = set()

    def run(self) -> Outcome:
        """Run all nodes."""
        running: dict[Future[Outcome], Path] = {}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"emulator-{self._job.name}") as pool:
            while True:
                for leaf in self._ready():
                    del self._left[leaf.path]
                    self._begin(leaf)
                    running[pool.submit(self._leaf, leaf)] = leaf.path
                if not running:
                    break
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._end(running.pop(future), future)
        self._end_groups()
        return Outcome(self._outputs(), self._error(), canceled=self._job.canceled)

    def _ready(self) -> list[Leaf]:
        if self._job.stopped:
            return []
        good = {path for path, outcome in self._done.items() if outcome.good}
        return [leaf for leaf in self._left.values() if leaf.after <= good]

    def _begin(self, leaf: Leaf) -> None:
        """Record the node, and the nodes around it that have not begun."""
        control = self._job.host.control
        for depth in range(1, len(leaf.path) + 1):
            path = leaf.path[:depth]
            if path in self._begun:
                continue
            self._begun.add(path)
            body = self._flat.groups.get(path) or leaf.body
            parent = self._ids[path[:-1]] if depth > 1 else self._job.name
            shown = str(pick(body, "display_name") or path[-1])
            control.add(Child(self._ids[path], parent, self._job.name, path[-1], shown, body))
            if path in self._flat.groups:
                control.change(self._ids[path], Change("Running"))

    def _leaf(self, leaf: Leaf) -> Outcome:
        task = Task(self._ids[leaf.path], leaf.label, leaf.command, self._known(leaf), leaf.outputs)
        run = Sweeping(self._job, task, leaf.body) if leaf.is_sweep else Running(self._job, task)
        outcome = run.run()
        self._job.host.control.change(task.run, outcome.change)
        return outcome

    def _known(self, leaf: Leaf) -> dict[str, Known]:
        found: dict[str, Known] = {}
        for name, item in leaf.inputs.items():
            uri = item.value.uri
            if item.value.node is not None:
                outputs = self._done[item.value.node].outputs
                uri = outputs.get(item.value.port) or outputs.get("default")  # `artifacts` need not be declared
            found[name] = Known(item.value.text, uri, item.mode)
        return found

    def _end(self, path: Path, future: Future[Outcome]) -> None:
        try:
            outcome = future.result()
        except Exception as error:  # noqa: BLE001 - a defect of the emulator fails the node and is said, rather than hanging the job
            outcome = Outcome({}, one_line(f"internal error: {error!r}"))
            self._job.host.control.change(self._ids[path], Change("Failed", outcome.error))
        self._done[path] = outcome
        if outcome.error is not None and not self._goes_on:
            self._job.stop()

    def _end_groups(self) -> None:
        for group in sorted(self._begun & self._flat.groups.keys(), key=len, reverse=True):
            inner = [path for path in self._flat.leaves if path[: len(group)] == group]
            errors = [f"{path[-1]}: {self._done[path].error}" for path in inner if self._failed(path)]
            good = all(path in self._done and self._done[path].good for path in inner)
            status: Status = "Failed" if errors else "Completed" if good else "Canceled"
            self._job.host.control.change(self._ids[group], Change(status, "; ".join(errors) or None))

    def _failed(self, path: Path) -> bool:
        return path in self._done and self._done[path].error is not None

    def _error(self) -> str | None:
        failed = [path for path in self._flat.leaves if self._failed(path)]
        if not failed:
            return None
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return f"node {'/'.join(failed[0])!r} failed: {self._done[failed[0]].error}{more}"

    def _outputs(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, (path, port) in self._flat.outputs.items():
            if path in self._done and port in self._done[path].outputs:
                found[name] = self._done[path].outputs[port]
        return found

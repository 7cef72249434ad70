"""Runs a sweep: trials of one command with values drawn from a search space, the best of which gives the sweep's outputs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from intermodal.backends.azureml.emulator.contract import Change, Child
from intermodal.backends.azureml.emulator.execution.bodies import pick, seconds
from intermodal.backends.azureml.emulator.execution.command import Known, Outcome, Running, Task
from intermodal.backends.azureml.emulator.execution.expressions import address
from intermodal.backends.azureml.emulator.execution.host import Job
from intermodal.backends.azureml.emulator.execution.sampling import Point, points, read_space
from intermodal.backends.azureml.emulator.execution.termination import Policy, read_policy
from intermodal.errors import BadInput, IntermodalError

_LOOK = 0.5
"""Seconds between two looks at what the trials report."""
_MOST_TRIALS = 1000


@dataclass(frozen=True)
class Plan:
    """A sweep as its body says it."""

    metric: str
    goal: int
    """+1 to maximize, -1 to minimize."""
    algorithm: str
    points: Iterator[Point]
    total: int
    at_once: int
    timeout: float | None
    trial_timeout: float | None
    policy: Policy | None


@dataclass
class Trial:
    run: str
    point: Point
    part: Job
    judged: int = 0
    """Intervals that the policy has looked at."""
    outcome: Outcome | None = None


def read_plan(body: Mapping[str, Any], place: str) -> Plan:
    """Read a sweep node or a sweep job's properties. Raises BadInput, Unsupported."""
    objective, limits = body.get("objective") or {}, body.get("limits") or {}
    metric, goal = pick(objective, "primary_metric"), str(objective.get("goal", "")).lower()
    if not metric or goal not in ("minimize", "maximize"):
        raise BadInput(f"{place}: its objective names no metric, or no goal (minimize, maximize)")
    sampling: Any = pick(body, "sampling_algorithm", "random")
    if isinstance(sampling, Mapping):
        algorithm, seed = pick(sampling, "sampling_algorithm_type") or pick(sampling, "type"), sampling.get("seed")
    else:
        algorithm, seed = sampling, None
    sign = 1 if goal == "maximize" else -1
    space = read_space(pick(body, "search_space", {}), place)
    total = int(pick(limits, "max_total_trials", _MOST_TRIALS))
    return Plan(
        str(metric),
        sign,
        str(algorithm).lower(),
        points(space, str(algorithm).lower(), None if seed is None else int(seed), place),
        total,
        max(1, min(total, int(pick(limits, "max_concurrent_trials", total)), 64)),
        seconds(pick(limits, "timeout"), f"{place}: limits.timeout"),
        seconds(pick(limits, "trial_timeout"), f"{place}: limits.trial_timeout"),
        read_policy(pick(body, "early_termination"), sign, place),
    )


class Sweeping:
    """One sweep. `task` is what all trials share; its run is the sweep's, whose last state is for the caller to tell."""

    def __init__(self, job: Job, task: Task, body: Mapping[str, Any]) -> None:
        self._job = job
        self._task = task
        self._body = body
        self._trials: list[Trial] = []
        self._deadline: float | None = None

    def run(self) -> Outcome:
        """Run all trials; what came of it is in the outcome."""
        try:
            plan = read_plan(self._body, self._task.path)
            self._tell(Change("Running", properties=self._notes(plan)))
            self._run(plan)
            return self._outcome(plan)
        except IntermodalError as error:
            return Outcome({}, error.message)

    def _tell(self, change: Change) -> None:
        self._job.host.control.change(self._task.run, change)

    def _notes(self, plan: Plan) -> dict[str, str]:
        return {"emulator.note": "bayesian sampling is drawn as random"} if plan.algorithm == "bayesian" else {}

    def _run(self, plan: Plan) -> None:
        self._deadline = None if plan.timeout is None else time.monotonic() + plan.timeout
        running: dict[Future[Outcome], Trial] = {}
        source = iter(plan.points)
        looking = _Looking(self, plan) if plan.policy else None
        try:
            with ThreadPoolExecutor(plan.at_once) as pool:
                while True:
                    while len(running) < plan.at_once and len(self._trials) < plan.total and self._goes_on():
                        point = next(source, None)
                        if point is None:
                            break
                        trial = self._begin(point)
                        running[pool.submit(self._trial, trial, plan)] = trial
                    if not running:
                        return
                    left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                    ended, _ = wait(running, left, FIRST_COMPLETED)
                    for future in ended:
                        running.pop(future).outcome = future.result()
                    if not ended:
                        for future, trial in running.items():
                            trial.part.stop()
                            trial.outcome = future.result()
                        return
        finally:
            if looking:
                looking.close()

    def _goes_on(self) -> bool:
        return not self._job.stopped and (self._deadline is None or time.monotonic() < self._deadline)

    def _begin(self, point: Point) -> Trial:
        number = len(self._trials)
        trial = Trial(f"{self._task.run}_{number}", point, self._job.part())
        self._trials.append(trial)
        name = f"trial_{number}"
        control = self._job.host.control
        control.add(Child(trial.run, self._task.run, self._job.name, name, name, {"hyperparameters": point}))
        control.change(trial.run, Change(tags={"hyperparameters": json.dumps(point)}))
        return trial

    def _trial(self, trial: Trial, plan: Plan) -> Outcome:
        values = {name: str(value) for name, value in trial.point.items()}
        command = self._task.command
        inputs = {**self._task.inputs}
        inputs |= {name: Known(value) for name, value in values.items() if name in command.inputs}
        outputs = {name: replace(port, uri=None) for name, port in self._task.outputs.items()}
        if plan.trial_timeout is not None:
            command = replace(command, timeout=min(plan.trial_timeout, command.timeout or plan.trial_timeout))
        path = f"{self._task.path}/{trial.run.rpartition('_')[2]}"
        task = Task(trial.run, path, command, inputs, outputs, values)
        outcome = Running(trial.part, task).run()
        self._job.host.control.change(trial.run, outcome.change)
        return outcome

    # The end

    def _outcome(self, plan: Plan) -> Outcome:
        if self._job.stopped:
            return Outcome({}, canceled=True)
        scores = {trial.run: plan.goal * max(values) for trial in self._trials if (values := self._values(trial, plan))}
        done = [trial for trial in self._trials if trial.outcome and trial.outcome.good and trial.run in scores]
        if not done:
            return Outcome({}, self._why(plan))
        best = max(done, key=lambda trial: plan.goal * scores[trial.run])
        properties = {"best_child_run_id": best.run, "score": repr(scores[best.run])}
        self._tell(Change(properties=properties))
        return Outcome(self._outputs(best))

    def _values(self, trial: Trial, plan: Plan) -> list[float]:
        """Return what the trial reported, so that greater is better."""
        return [plan.goal * value for value in self._job.host.control.history(trial.run, plan.metric)]

    def _why(self, plan: Plan) -> str:
        failed = [trial for trial in self._trials if trial.outcome and trial.outcome.error]
        if failed and failed[0].outcome:
            return f"no trial gave a result; {failed[0].run.rpartition('_')[2]} failed: {failed[0].outcome.error}"
        return f"none of {len(self._trials)} trials reported {plan.metric!r}"

    def _outputs(self, best: Trial) -> dict[str, str]:
        """Return the best trial's outputs; those that are wanted elsewhere are copied there."""
        found = dict(best.outcome.outputs) if best.outcome else {}
        for name, port in self._task.outputs.items():
            if port.uri is None or name not in found:
                continue
            target = address(
                port.uri, {"name": self._task.run, "output_name": name, "default_datastore": "workspaceblobstore"}
            )
            self._job.publish(self._job.fetch(found[name]), target)
            found[name] = target
        return found

    # Early termination

    def look(self, plan: Plan) -> None:
        """End the trials that the policy gives up."""
        policy = plan.policy
        if policy is None:
            return
        control = self._job.host.control
        trials = list(self._trials)
        reported = {trial.run: control.history(trial.run, plan.metric) for trial in trials}
        finished = frozenset(trial.run for trial in trials if trial.outcome)
        for trial in trials:
            if trial.outcome or trial.part.stopped:
                continue
            for interval in range(trial.judged + 1, len(reported[trial.run]) + 1):
                trial.judged = interval
                if policy.due(interval) and policy.ends(trial.run, interval, reported, finished):
                    control.change(
                        trial.run, Change(tags={"early_termination": f"{policy.kind} at interval {interval}"})
                    )
                    trial.part.stop()
                    break


class _Looking:
    """The thread that applies the policy while trials run."""

    def __init__(self, sweep: Sweeping, plan: Plan) -> None:
        self._sweep, self._plan = sweep, plan
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(_LOOK):
            self._sweep.look(self._plan)

    def close(self) -> None:
        self._end.set()
        self._thread.join()

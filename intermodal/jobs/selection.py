"""The best configuration of a finished sweep. Strict: a metric that no trial logged is an error, never another metric."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intermodal.errors import BadInput
from intermodal.jobs.parts import JobUnfit, completed, input_address
from intermodal.jobs.settings import near
from intermodal.jobs.sweep import objective_of
from intermodal.jobs.tracking import Trial, read_trials

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.sweep import SweepJob


@dataclass(frozen=True)
class BestConfiguration:
    """The winner of a sweep: what it was trained with, and why it won."""

    backbone: str
    hyperparameters: Mapping[str, Any]
    """As numbers: all that the trainer said that it trained with, or else the dimensions that were searched."""
    metric: str
    value: float
    trial: str
    """Name of the winning trial's job."""
    sweep: str
    considered: int
    """Completed trials that logged the metric."""
    trials: int
    backbone_asset: str | None = None
    """What the sweep read as the backbone and the dataset."""
    data_asset: str | None = None


def select_best_configuration(
    sweep_job: SweepJob, ml_client: MLClient, objective_metric: str | None = None
) -> BestConfiguration:
    """Return the best completed trial of a completed sweep, by the metric (None: the sweep's objective) and the sweep's direction.

    Equal values: the earlier trial. Trials that failed, were stopped, or logged no number are left out.
    Raises JobUnfit if the sweep has not completed or no trial counts, BadInput naming near misses for a metric that was not logged.
    """
    completed(sweep_job, "sweep")
    name = str(sweep_job.name)
    objective, goal = objective_of(sweep_job)
    metric = objective_metric or objective
    trials = read_trials(ml_client, name)
    best, considered = best_trial(trials, metric, goal, name)
    return BestConfiguration(
        backbone=str((sweep_job.tags or {}).get("backbone", "")),
        hyperparameters=hyperparameters_of(best, list(sweep_job.search_space or {})),
        metric=metric,
        value=best.metrics[metric],
        trial=best.name,
        sweep=name,
        considered=considered,
        trials=len(trials),
        backbone_asset=input_address(sweep_job, "backbone"),
        data_asset=input_address(sweep_job, "dataset"),
    )


def best_trial(trials: Sequence[Trial], metric: str, goal: str, sweep: str) -> tuple[Trial, int]:
    """Return the best completed trial, the earlier of equals, and how many logged the metric. Raises JobUnfit, BadInput."""
    ended = [trial for trial in trials if trial.status == "Completed"]
    if not ended:
        states = ", ".join(f"{trial.name} {trial.status}" for trial in trials) or "it has no trials"
        raise JobUnfit(f"sweep {sweep}: no trial completed ({states})")
    logged = sorted({key for trial in ended for key in trial.metrics})
    if metric not in logged:
        raise BadInput(f"sweep {sweep}: no trial logged {metric!r}", hint=near(metric, logged))
    candidates = [trial for trial in ended if metric in trial.metrics]
    sign = -1.0 if goal == "minimize" else 1.0
    best = max(candidates, key=lambda trial: sign * trial.metrics[metric])  # max keeps the first of equals
    return best, len(candidates)


def hyperparameters_of(trial: Trial, searched: list[str]) -> dict[str, Any]:
    """Return what the trial was trained with. Raises JobUnfit naming a dimension that it does not tell."""
    said: dict[str, Any] = (
        dict(trial.hyperparameters)
        if trial.hyperparameters is not None
        else {name: _value(text) for name, text in trial.params.items() if name in searched}
    )
    for name in searched:
        if name not in said:
            raise JobUnfit(f"trial {trial.name}: does not say what {name} it had", hint=near(name, said))
    return said


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

"""When a trial is stopped before its end: Optuna's pruners, and the bandit policy of AzureML. Steps are epochs, from 1."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from components.hpo.settings import Search, pruning


class BanditPruner(BasePruner):
    """Stops a trial whose best score falls behind the best of all trials at the same step by more than the slack.

    For a score that is to grow the trial must reach best / (1 + slack_factor), or best - slack_amount; it is looked at every
    `evaluation_interval` steps, first at step `delay_evaluation`. Source: AzureML's BanditPolicy.
    """

    def __init__(
        self, *, slack_factor: float, slack_amount: float, evaluation_interval: int, delay_evaluation: int
    ) -> None:
        self._factor = slack_factor
        self._amount = slack_amount
        self._interval = evaluation_interval
        self._delay = delay_evaluation

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether `trial` is to be stopped at its last step."""
        step = trial.last_step
        if step is None or step < self._delay or step % self._interval:
            return False
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))
        scores = [_best(other, step, sign) for other in others if other.number != trial.number]
        best = max((score for score in scores if score is not None), default=None)
        own = _best(trial, step, sign)
        if best is None or own is None:
            return False
        least = best - self._amount if self._amount else best - abs(best) * (1 - 1 / (1 + self._factor))
        return own < least


def _best(trial: FrozenTrial, step: int, sign: float) -> float | None:
    """Return the trial's best score up to `step`, so that larger is better."""
    return max((sign * value for at, value in trial.intermediate_values.items() if at <= step), default=None)


def make_pruner(search: Search) -> BasePruner:
    """Return the pruner of a search."""
    given = pruning(search)
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=min(given["min_epochs"], search.steps),
            max_resource=max(1, search.steps),
            reduction_factor=given["reduction"],
        )
    if search.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=given["min_epochs"], reduction_factor=given["reduction"]
        )
    if search.pruner == "patient":
        inner = _median(search, {"startup": 0, "warmup": 0, "interval": 1}) if given["then"] == "median" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.pruners.PatientPruner(inner, patience=given["patience"], min_delta=given["min_delta"])
    if search.pruner == "bandit":
        return BanditPruner(**given)
    if search.pruner == "percentile":
        return optuna.pruners.PercentilePruner(
            given["percentile"],
            n_startup_trials=given["startup"] or _startup(search),
            n_warmup_steps=given["warmup"],
            interval_steps=given["interval"],
        )
    if search.pruner == "median":
        return _median(search, given)
    return optuna.pruners.NopPruner()


def _median(search: Search, given: Mapping[str, Any]) -> BasePruner:
    return optuna.pruners.MedianPruner(
        n_startup_trials=given["startup"] or _startup(search),
        n_warmup_steps=given["warmup"],
        interval_steps=given["interval"],
    )


def _startup(search: Search) -> int:
    """Return after how many trials pruning begins: Optuna's own 5 would never let a small budget prune."""
    return min(5, max(1, search.trials // 3))

"""Early termination of trials: AzureML's policies, on what the trials have reported so far.

A trial's interval is the number of values of the primary metric that it has reported. Source: AzureML's documentation of
`early_termination`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intermodal.backends.azureml.emulator.execution.bodies import is_true, pick
from intermodal.errors import Unsupported


@dataclass(frozen=True)
class Policy:
    """`kind` is bandit, median or truncation. `goal` is +1 to maximize, -1 to minimize."""

    kind: str
    goal: int
    interval: int = 1
    delay: int = 0
    slack_factor: float = 0.0
    slack_amount: float = 0.0
    percentage: float = 0.0
    exclude_finished: bool = False

    def due(self, interval: int) -> bool:
        """Whether a trial is looked at when it has reported this many values."""
        return interval > self.delay and (interval - self.delay) % max(1, self.interval) == 0

    def ends(
        self, trial: str, interval: int, reported: Mapping[str, Sequence[float]], finished: frozenset[str]
    ) -> bool:
        """Whether a trial should end, judged at one of its intervals against all that have come as far."""
        bests = {
            name: max(self.goal * value for value in values[:interval])
            for name, values in reported.items()
            if len(values) >= interval
        }
        own = bests.pop(trial, None)
        if own is None or not bests:
            return False
        if self.kind == "bandit":
            return own < self._allowed(max(bests.values()))
        if self.kind == "median":
            means = [
                self.goal * statistics.fmean(values[:interval]) for name, values in reported.items() if name in bests
            ]
            return own < statistics.median(means)
        rivals = [best for name, best in bests.items() if not (self.exclude_finished and name in finished)]
        worse = sum(best < own for best in rivals)
        return worse < int((len(rivals) + 1) * self.percentage / 100)

    def _allowed(self, best: float) -> float:
        if self.slack_factor:
            raw = best * self.goal
            ratio = 1 + self.slack_factor
            return self.goal * (raw / ratio if self.goal > 0 else raw * ratio)
        return best - self.slack_amount


def read_policy(body: Mapping[str, Any] | None, goal: int, place: str) -> Policy | None:
    """Return the policy of a sweep, None if it has none. Raises Unsupported."""
    if not body:
        return None
    written = str(pick(body, "policy_type") or pick(body, "type", ""))
    kinds = {"bandit": "bandit", "medianstopping": "median", "truncationselection": "truncation"}
    kind = kinds.get(written.replace("_", "").lower())
    if kind is None:
        raise Unsupported(f"{place}: early termination policy {written!r} is not known")
    return Policy(
        kind,
        goal,
        int(pick(body, "evaluation_interval", 1)),
        int(pick(body, "delay_evaluation", 0)),
        float(pick(body, "slack_factor", 0.0)),
        float(pick(body, "slack_amount", 0.0)),
        float(pick(body, "truncation_percentage", 0.0)),
        is_true(pick(body, "exclude_finished_jobs", False)),
    )

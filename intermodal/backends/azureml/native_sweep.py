"""A search step as a native sweep node: `[tool.intermodal.azureml.sweeps.<component>]`, and what the node says of the sweep.

The step's own image runs each trial: it finds the trial's values in INTERMODAL_TRIAL, trains once, logs its objective to the run
that AzureML opened for the trial, and writes all its outputs, as for a search of that one point. A sweep's outputs are the best trial's, so
what comes after the step binds what it always binds. Source of the node's form: pipeline_with_hyperparameter_sweep of azureml-examples.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from intermodal.errors import BadInput, Unsupported

OBJECTIVE = "validation_macro_f1"
"""What the trainer logs: strict span macro-F1 on the validation documents, the best of the epochs so far."""
SPACE, TRIALS = "search_space", "trials"
"""Parameters of a search step that the sweep is made of; they must be known at submission."""
_POLICY_TYPES = {"bandit": "Bandit", "median_stopping": "MedianStopping", "truncation_selection": "TruncationSelection"}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_POLICY_KEYS = {
    "bandit": ("slack_factor", "slack_amount"),
    "median": (),
    "truncation": ("truncation_percentage",),
    "none": (),
}


class EarlyTermination(_Table):
    """When a trial is stopped: intervals are epochs, since the trainer logs its score after each."""

    policy: Literal["bandit", "median", "truncation", "none"] = "none"
    evaluation_interval: PositiveInt = 1
    delay_evaluation: int = Field(default=0, ge=0)
    slack_factor: PositiveFloat | None = None
    """Bandit: stopped below best / (1 + slack_factor)."""
    slack_amount: PositiveFloat | None = None
    """Bandit: stopped below best - slack_amount."""
    truncation_percentage: int | None = Field(default=None, ge=1, le=99)

    @model_validator(mode="after")
    def _sound(self) -> EarlyTermination:
        own = _POLICY_KEYS[self.policy]
        given = [
            name
            for name in ("slack_factor", "slack_amount", "truncation_percentage")
            if getattr(self, name) is not None
        ]
        for name in given:
            if name not in own:
                raise ValueError(f"policy {self.policy} takes no {name}")
        if own and len(given) != 1:
            raise ValueError(f"policy {self.policy} takes {' or '.join(own)}, one of them")
        return self


class NativeSweep(_Table):
    """How a search step's trials are drawn and run by AzureML. Sampler and pruner of the step itself count for nothing then."""

    sampling: Literal["random", "grid", "bayesian"] = "random"
    max_concurrent_trials: PositiveInt | None = None
    timeout_minutes: PositiveInt | None = None
    trial_timeout_minutes: PositiveInt | None = None
    early_termination: EarlyTermination = EarlyTermination()

    @model_validator(mode="after")
    def _sound(self) -> NativeSweep:
        if self.sampling == "bayesian" and self.early_termination.policy != "none":
            raise ValueError("bayesian sampling of AzureML supports no early_termination")
        return self


def port(name: str) -> str:
    """Return the input port of a hyperparameter."""
    return f"s_{name}"


def sweep_of(settings: NativeSweep, known: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return what a sweep node says beside its trial, as a job's YAML has it. Raises Unsupported and BadInput naming the task."""
    from intermodal.backends.azureml.search_space import read_search_space, translate

    for name in (SPACE, TRIALS):
        if name not in known:
            raise Unsupported(
                f"{path}: a native sweep needs {name!r} at submission, and it has none or a task makes it",
                hint="make it a constant or an argument of the pipeline",
            )
    _check_search(known, path)
    try:
        space = translate(read_search_space(known[SPACE]), settings.sampling)
    except (BadInput, Unsupported) as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
    trials = int(known[TRIALS])
    if trials < 1:
        raise BadInput(f"{path}: trials must be at least 1, got {trials}")
    limits: dict[str, Any] = {"max_total_trials": trials}
    if settings.max_concurrent_trials is not None:
        limits["max_concurrent_trials"] = min(settings.max_concurrent_trials, trials)
    minutes = {"timeout": settings.timeout_minutes, "trial_timeout": settings.trial_timeout_minutes}
    limits |= {name: value * 60 for name, value in minutes.items() if value is not None}
    found: dict[str, Any] = {
        "search_space": {port(name): distribution for name, distribution in space.items()},
        "sampling_algorithm": settings.sampling,
        "objective": {"goal": "maximize", "primary_metric": OBJECTIVE},
        "limits": limits,
    }
    if policy := _policy(settings.early_termination):
        found["early_termination"] = policy
    return found


def check_alone(before: Collection[str], component: str, path: str) -> None:
    """Raise Unsupported if workers of the search (tasks of component NAME-worker) are among the tasks `before` it."""
    if any(task.rsplit("/", 1)[-1] == f"{component}-worker" for task in before):
        raise Unsupported(
            f"{path}: a native sweep shares its trials out itself, and workers have no part in it",
            hint="workers=1, and max_concurrent_trials in [tool.intermodal.azureml.sweeps]",
        )


def _check_search(known: Mapping[str, Any], path: str) -> None:
    """Raise Unsupported for what the step itself would do with its trials, and a sweep does not."""
    search = known.get("search") or {}
    for name in ("folds", "objectives", "minutes", "pruning"):
        if search.get(name):
            raise Unsupported(
                f"{path}: a native sweep knows no {name} of a search",
                hint="leave it out, or take the step out of [tool.intermodal.azureml.sweeps]",
            )


def rest_form(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same as it stands in the body of a job."""
    changed = dict(sweep)
    if "early_termination" in sweep:
        policy = dict(sweep["early_termination"])
        changed["early_termination"] = {"policy_type": _POLICY_TYPES[policy.pop("type")], **policy}
    return changed


def _policy(wanted: EarlyTermination) -> dict[str, Any]:
    names = {"bandit": "bandit", "median": "median_stopping", "truncation": "truncation_selection"}
    if wanted.policy not in names:
        return {}
    found: dict[str, Any] = {
        "type": names[wanted.policy],
        "delay_evaluation": wanted.delay_evaluation,
        "evaluation_interval": wanted.evaluation_interval,
    }
    if wanted.policy == "bandit":
        slack = {"slack_factor": wanted.slack_factor, "slack_amount": wanted.slack_amount}
        return {**found, **{name: value for name, value in slack.items() if value is not None}}
    if wanted.policy == "truncation":
        return {**found, "truncation_percentage": wanted.truncation_percentage}
    return found

"""What a sweep is asked to do: the hyperparameter part of a configuration, typed and checked. An unknown key is an error.

search_space: {learning_rate: {type: loguniform, min: 1e-5, max: 5e-5}, ...}   # the vocabulary of components/hpo
sampling: {algorithm: random, max_trials: 20, max_concurrent_trials: 4, timeout_minutes: 480}
early_termination: {policy: bandit, evaluation_interval: 1, delay_evaluation: 2, slack_factor: 0.2}
objective: {metric: validation_macro_f1, direction: maximize}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from intermodal.backends.azureml.native_sweep import OBJECTIVE, EarlyTermination
from intermodal.errors import BadInput


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sampling(_Table):
    """How trials are drawn, and how many."""

    algorithm: Literal["random", "sobol", "grid", "bayesian"] = "random"
    seed: int | None = None
    """Of random and sobol sampling."""
    max_trials: PositiveInt
    max_concurrent_trials: PositiveInt | None = None
    """None: as many as the service likes, up to `max_trials`."""
    timeout_minutes: PositiveInt | None = None
    """Of the whole sweep; AzureML then cancels what still runs. Whole minutes: the SDK would cut off the rest."""
    trial_timeout_minutes: PositiveInt | None = None

    @model_validator(mode="after")
    def _sound(self) -> Sampling:
        if self.max_concurrent_trials is not None and self.max_concurrent_trials > self.max_trials:
            raise ValueError(
                f"max_concurrent_trials {self.max_concurrent_trials} is more than max_trials {self.max_trials}"
            )
        if self.seed is not None and self.algorithm not in ("random", "sobol"):
            raise ValueError(f"{self.algorithm} sampling takes no seed")
        return self


class Objective(_Table):
    """Which metric of the trial's run decides."""

    metric: str = OBJECTIVE
    direction: Literal["maximize", "minimize"] = "maximize"


class SweepSettings(_Table):
    """A sweep. `search_space` is read by `read_search_space`."""

    search_space: dict[str, Any]
    sampling: Sampling
    early_termination: EarlyTermination = EarlyTermination()
    objective: Objective = Objective()

    @model_validator(mode="after")
    def _sound(self) -> SweepSettings:
        if self.sampling.algorithm == "bayesian" and self.early_termination.policy != "none":
            raise ValueError("bayesian sampling of AzureML supports no early_termination")
        return self


def read_sweep_settings(values: Any) -> SweepSettings:
    """Return the settings of `values`. Raises BadInput naming the key, with the closest known one for a typo."""
    if isinstance(values, SweepSettings):
        return values
    try:
        return SweepSettings.model_validate(values)
    except ValidationError as error:
        raise _explained(error) from error


def _explained(error: ValidationError) -> BadInput:
    # A mistyped key makes another one missing: the typo is the news.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        tables: Mapping[str, type[BaseModel]] = {
            "sampling": Sampling,
            "early_termination": EarlyTermination,
            "objective": Objective,
        }
        owner = tables.get(str(first["loc"][0]), SweepSettings) if len(first["loc"]) > 1 else SweepSettings
        return BadInput(f"hpo_config: unknown key {key!r}", hint=near(str(first["loc"][-1]), owner.model_fields))
    message = first["msg"].removeprefix("Value error, ")
    shown = f", got {first['input']!r}" if first["type"] not in ("missing", "value_error") else ""
    return BadInput(f"hpo_config{'.' + key if key else ''}: {message}{shown}")


def near(name: str, known: Any) -> str:
    """Return a hint for a name that is not among the `known`: the closest of them, or all."""
    close = difflib.get_close_matches(name, list(known), 1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(map(str, known)) or 'none'}"

"""How to search: typed and checked. Standard library only, so that the host can check an experiment before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from components.kfp_io import StepError
from components.trainer.settings import unknown

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "tpe": "tree-structured Parzen estimator, multivariate and grouped: learns from earlier trials",
        "random": "independent draws",
        "gp": "Gaussian process: learns most from few trials, of spaces without conditions",
        "cmaes": "CMA-ES: evolution of a normal distribution, for numbers and many trials",
        "qmc": "scrambled Sobol points: spread more evenly than random ones",
        "grid": "every point of a finite space once, in an order of the seed",
        "nsga2": "NSGA-II: evolution of a Pareto front, for two objectives and many trials",
    }
)
PRUNERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "median": {"startup": 0, "warmup": 0, "interval": 1},
        "percentile": {"percentile": 25.0, "startup": 0, "warmup": 0, "interval": 1},
        "hyperband": {"min_epochs": 1, "reduction": 3},
        "asha": {"min_epochs": 1, "reduction": 3},
        "patient": {"patience": 1, "min_delta": 0.0, "then": "none"},
        "bandit": {"slack_factor": 0.0, "slack_amount": 0.0, "evaluation_interval": 1, "delay_evaluation": 0},
        "none": {},
    }
)
"""Pruners, and the settings that each takes with their defaults. `startup` 0 takes a third of the trials, at most 5."""
OBJECTIVES = ("macro_f1", "latency_ms")
"""What a trial may be judged by: strict span macro-F1, which is to grow, and the time of one document, which is to shrink."""
MODES = ("resume", "reuse")


@dataclass(frozen=True)
class Search:
    """How to search. `epochs` bounds a trial's, for the pruner; `trials` is the budget, for the sampler's start-up too.

    pruning: settings of the pruner. minutes: no trial begins once the study has run trials for so long; 0: no bound.
    folds: 0 scores on the dataset's validation documents; k from 2 on trains a trial k times, on all documents but a fold.
    objectives: macro_f1 alone, or macro_f1 and latency_ms. tolerance: of two objectives, the best parameters are those of the
    fastest trial whose macro-F1 is within it of the best. study: a name that makes it a study of its own. mode: `resume` goes on with
    the study of the same question, `reuse` trains nothing and fails unless it is complete. dry_run: first train on a handful of
    documents, for seconds, before hours are spent. lease_seconds: a worker that has not been heard of for so long is dead.
    """

    trials: int
    sampler: str
    pruner: str
    seed: int
    epochs: int
    pruning: Mapping[str, Any] = field(default_factory=dict)
    minutes: float = 0.0
    folds: int = 0
    objectives: tuple[str, ...] = ("macro_f1",)
    tolerance: float = 0.01
    study: str = ""
    mode: str = "resume"
    dry_run: bool = False
    lease_seconds: float = 60.0

    @property
    def steps(self) -> int:
        """The most reports that one trial makes."""
        return self.epochs * max(1, self.folds)


OPTIONS = tuple(item.name for item in fields(Search))[5:]
"""Settings that the step takes as one JSON object."""


def parse_search(options: Any, *, trials: int, sampler: str, pruner: str, seed: int, epochs: int) -> Search:
    """Return how to search, of the arguments and the JSON object `options`. Raises StepError naming the key and the value."""
    if not isinstance(options, Mapping):
        raise StepError(f"search settings must be a mapping of names to values, got {options!r}")
    for name in options:
        if name not in OPTIONS:
            raise unknown("search setting", str(name), OPTIONS)
    given: dict[str, Any] = {name: _read(name, value) for name, value in options.items()}
    search = Search(trials, sampler, pruner, seed, epochs, **given)
    check_search(search)
    return search


def check_search(search: Search) -> None:
    """Raise StepError for an unknown sampler, pruner or setting of it, a budget without a trial, and what cannot go together."""
    if search.sampler not in SAMPLERS:
        raise unknown("sampler", search.sampler, SAMPLERS)
    if search.pruner not in PRUNERS:
        raise unknown("pruner", search.pruner, PRUNERS)
    if search.mode not in MODES:
        raise unknown("mode of a search", search.mode, MODES)
    if search.trials < 1:
        raise StepError(f"trials must be at least 1, got {search.trials}")
    if search.folds < 0 or search.folds == 1:
        raise StepError(f"folds must be 0 (the dataset's own validation documents) or at least 2, got {search.folds}")
    pruning(search)
    _check_objectives(search)


def pruning(search: Search) -> dict[str, Any]:
    """Return all settings of the search's pruner. Raises StepError for one that it does not take, or a value that cannot be."""
    known = PRUNERS[search.pruner]
    found = dict(known)
    for name, value in search.pruning.items():
        if name not in known:
            raise (
                unknown(f"setting of pruner {search.pruner}:", name, known)
                if known
                else StepError(f"pruner none takes no settings, got {name!r}")
            )
        whole, text = isinstance(known[name], int), isinstance(known[name], str)
        if text:
            if value not in ("none", "median"):
                raise StepError(f"pruner {search.pruner}: {name} must be none or median, got {value!r}")
        elif not _is_number(value) or value < 0 or (whole and value != int(value)):
            raise StepError(
                f"pruner {search.pruner}: {name} must be a {'whole ' if whole else ''}number from 0 on, got {value!r}"
            )
        found[name] = int(value) if whole else value  # KFP's Struct has only doubles, and Optuna counts with integers
    for name, least in (("interval", 1), ("evaluation_interval", 1), ("min_epochs", 1), ("reduction", 2)):
        if name in found and found[name] < least:
            raise StepError(f"pruner {search.pruner}: {name} must be at least {least}, got {found[name]!r}")
    if search.pruner == "bandit" and bool(found["slack_factor"]) == bool(found["slack_amount"]):
        raise StepError("pruner bandit takes slack_factor or slack_amount, one of them, above 0")
    if found.get("percentile", 0) > 100:
        raise StepError(f"pruner percentile: percentile must be at most 100, got {found['percentile']!r}")
    return found


def _check_objectives(search: Search) -> None:
    for name in search.objectives:
        if name not in OBJECTIVES:
            raise unknown("objective", name, OBJECTIVES)
    if search.objectives not in (OBJECTIVES[:1], OBJECTIVES):
        raise StepError(f"objectives must be [macro_f1] or [macro_f1, latency_ms], got {list(search.objectives)!r}")
    two = len(search.objectives) == 2
    if two and search.pruner != "none":
        raise StepError(
            f"pruner {search.pruner} judges by one score, and there are two objectives", hint="pruner: none"
        )
    if two and search.sampler == "cmaes":
        raise StepError("sampler cmaes takes one objective", hint="tpe, gp, nsga2, random, qmc and grid take two")


def _read(name: str, value: Any) -> Any:
    wrong = StepError(f"search setting {name}: got {value!r}")
    if name == "pruning":
        if not isinstance(value, Mapping):
            raise StepError(f"search setting pruning must be a mapping of names to values, got {value!r}")
        return dict(value)
    if name == "objectives":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise StepError(f"search setting objectives must be a list of names, got {value!r}")
        return tuple(value)
    if name in ("study", "mode"):
        if not isinstance(value, str):
            raise wrong
        return value
    if name == "dry_run":
        if not isinstance(value, bool):
            raise StepError(f"search setting dry_run must be true or false, got {value!r}")
        return value
    if not _is_number(value) or value < 0 or (name == "folds" and value != int(value)):
        raise StepError(f"search setting {name} must be a number from 0 on, got {value!r}")
    if name == "lease_seconds" and value < 1:
        raise StepError(f"search setting lease_seconds must be at least 1, got {value!r}")
    return int(value) if name == "folds" else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

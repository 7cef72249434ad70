"""Which point comes next: Optuna's samplers, each seeded by the trial's place in the budget, and the points of a grid."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from components.hpo.search_space import SearchSpace
from components.hpo.settings import Search
from components.hpo.study import HYPERPARAMETERS, counted

_DRAWS = 1000
Point = tuple[tuple[str, Any], ...]
"""Names and values of a trial's dimensions, sorted: what makes two trials the same."""


def make_sampler(search: Search, slot: int) -> BaseSampler:
    """Return the sampler of the trial that fills `slot` of the budget.

    Each slot has a seed of its own, so that a study that was interrupted draws what it would have drawn without that. What a
    sampler must remember between trials, Optuna keeps in the study.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _MAKERS[search.sampler](search, _seed(search.seed, slot))


def _seed(seed: int, slot: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{slot}".encode()).digest()[:4])


def _startup(search: Search) -> int:
    """Return how many trials are drawn at random first: Optuna's own 10 would make a small budget all random."""
    return min(10, max(2, search.trials // 2))


def _tpe(search: Search, seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=_startup(search), multivariate=True, group=True, constant_liar=True
    )


def _random(search: Search, seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _gp(search: Search, seed: int) -> BaseSampler:
    # The trainings of a study share their seed: the same point gives the same score.
    return optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=_startup(search), deterministic_objective=True, warn_independent_sampling=False
    )


def _cmaes(search: Search, seed: int) -> BaseSampler:
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, consider_pruned_trials=True)


def _qmc(search: Search, seed: int) -> BaseSampler:
    # One scrambled sequence for the whole study: the number of the next point lies in the study, so its seed is the study's.
    return optuna.samplers.QMCSampler(
        seed=search.seed % 2**32,
        scramble=True,
        independent_sampler=optuna.samplers.RandomSampler(seed=seed),
        warn_independent_sampling=False,
        warn_asynchronous_seeding=False,
    )


def _nsga2(search: Search, seed: int) -> BaseSampler:
    # Optuna's population of 50 would never see a second generation in a small budget.
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=min(50, max(4, search.trials // 4)))


_MAKERS: Mapping[str, Callable[[Search, int], BaseSampler]] = MappingProxyType(
    {
        "tpe": _tpe,
        "random": _random,
        "gp": _gp,
        "cmaes": _cmaes,
        "qmc": _qmc,
        "nsga2": _nsga2,
        "grid": _random,  # its points are given to the trials; nothing is left to draw
    }
)


def budget(search: Search, space: SearchSpace) -> int:
    """Return how many trials the study is to have: no more than there are points."""
    points = space.points()
    return search.trials if points is None else min(search.trials, len(points))


def point_of(hyperparameters: Mapping[str, Any]) -> Point:
    """Return the point of hyperparameters. Floats count by twelve digits: 0.1 + 0.2 is 0.3."""
    return tuple(
        (name, float(f"{value:.12g}") if isinstance(value, float) else value)
        for name, value in sorted(hyperparameters.items())
    )


def taken(trials: Sequence[FrozenTrial]) -> set[Point]:
    """Return the points that have a score or are on their way to one: to run one again would tell nothing."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
    return {point_of(_hyperparameters(trial)) for trial in trials if trial.state in states}


def free_point(search: Search, slot: int, space: SearchSpace, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
    """Return a point that no trial has had, drawn evenly by the seed of `slot`, as the parameters of a trial.

    None if all of a finite space are used, or if none was free of 1,000 that were drawn.
    """
    used = {point_of(_hyperparameters(trial)) for trial in counted(trials)}
    points, seed = space.points(), _seed(search.seed, slot)
    if points is not None:
        free = [point for point in points if point_of(point) not in used]
        return random.Random(seed).choice(free) if free else None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(_DRAWS):
        trial = study.ask()
        if point_of(space.sample(trial)) not in used:
            return trial.params
    return None


def _hyperparameters(trial: FrozenTrial) -> Mapping[str, Any]:
    waiting: Mapping[str, Any] = trial.system_attrs.get("fixed_params", {})
    found: Mapping[str, Any] = trial.user_attrs.get(HYPERPARAMETERS) or trial.params or waiting
    return found

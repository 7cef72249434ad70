"""Draws from a search space with real samplers, each as a worker of a study does, and prints the draws as JSON."""

from __future__ import annotations

import json
import sys

import optuna

from components.hpo.samplers import make_sampler
from components.hpo.search_space import parse_search_space
from components.hpo.settings import Search


def draws(sampler: str, seed: int, trials: int) -> list[dict[str, float]]:
    """Return what `trials` trials of a fresh study draw, each with the value of a simple function as its score."""
    space = parse_search_space(json.loads(sys.argv[1]))
    search = Search(trials=trials, sampler=sampler, pruner="none", seed=seed, epochs=1)
    study = optuna.create_study(direction="maximize")
    drawn = []
    for slot in range(trials):
        study.sampler = make_sampler(search, slot)
        trial = study.ask()
        drawn.append(space.sample(trial))
        study.tell(trial, -abs(drawn[-1]["dropout"] - 0.2))
    return drawn


optuna.logging.set_verbosity(optuna.logging.WARNING)
print(
    "FACTS "
    + json.dumps(
        {
            "random": draws("random", 1, 40),
            "tpe": draws("tpe", 1, 24),
            "tpe again": draws("tpe", 1, 24),
            "tpe other seed": draws("tpe", 2, 24),
            **{name: draws(name, 1, 12) for name in ("gp", "cmaes", "qmc", "nsga2")},
            **{f"{name} again": draws(name, 1, 12) for name in ("gp", "cmaes", "qmc", "nsga2")},
        }
    )
)

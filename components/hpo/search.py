"""The search itself: trials one after another, each an own training that reports every epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from components.hpo.search_space import SearchSpace, canonical
from components.hpo.study import (
    FAILURE,
    INTERRUPTED,
    Search,
    make_sampler,
    open_study,
    sole_worker,
    spent,
    study_identity,
)
from components.kfp_io import StepError
from components.trainer.backbone import read_backbone
from components.trainer.data import TrainingData
from components.trainer.settings import TrainingSettings, parse_hyperparameters
from components.trainer.tracking import NoTracking, Tracking
from components.trainer.training import Diverged, train


@dataclass(frozen=True)
class Outcome:
    """A finished search: its trials in order, and the best of those that ran to their end."""

    identity: str
    folder: Path
    trials: list[FrozenTrial]
    best: FrozenTrial


def run_search(
    data: TrainingData,
    backbone: Path,
    space: SearchSpace,
    settings: TrainingSettings,
    search: Search,
    state: Path,
    given: Mapping[str, Any] | None = None,
    tracking: Tracking | None = None,
) -> Outcome:
    """Run trials until the budget is spent, going on with the study that `state` holds for the same question.

    Every trial has the hyperparameters `given`, if there are any, in place of a draw; each epoch is told to `tracking`.
    A trial's value is its best validation span macro-F1. Raises StepError if no trial ran to its end.
    """
    identity = study_identity(
        {
            "dataset": data.content_sha256,
            "backbone": read_backbone(backbone).text,
            "space": canonical(space),
            "training": dataclasses.asdict(settings),
            "seed": search.seed,
            "sampler": search.sampler,
            "pruner": search.pruner,
        }
    )
    folder = state / identity
    with sole_worker(folder):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = open_study(folder, search)
        done = len(spent(study))
        print(f"study {identity}: {done} of {search.trials} trials are done", flush=True)
        for slot in range(done, search.trials):
            study.sampler = make_sampler(search, slot)
            _run_trial(study, data, backbone, space, settings, search.seed, given, tracking or NoTracking())
        trials = study.get_trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise StepError(f"no trial of {len(trials)} ran to its end", hint=_why(trials))
    return Outcome(identity, folder, trials, max(complete, key=lambda trial: (trial.value or 0.0, -trial.number)))


def _run_trial(
    study: optuna.Study,
    data: TrainingData,
    backbone: Path,
    space: SearchSpace,
    settings: TrainingSettings,
    seed: int,
    given: Mapping[str, Any] | None,
    tracking: Tracking,
) -> None:
    """Run one trial to its end, its pruning or its divergence. Any other error ends the search."""
    trial = study.ask()
    sampled = space.sample(trial) if given is None else dict(given)
    hyperparameters = parse_hyperparameters(sampled, settings)
    tracking.start(dataclasses.asdict(hyperparameters), settings)
    trial.set_user_attr("hyperparameters", sampled)
    print(
        f"trial {trial.number}: " + "  ".join(f"{name}={_short(value)}" for name, value in sampled.items()), flush=True
    )

    def on_epoch(epoch: int, macro_f1: float) -> None:
        trial.report(macro_f1, epoch)
        tracking.epoch(epoch, macro_f1)
        if epoch < settings.epochs and trial.should_prune():
            raise optuna.TrialPruned

    try:
        result = train(data, backbone, hyperparameters, settings, seed, on_epoch, _indented)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"trial {trial.number}: pruned", flush=True)
    except Diverged as error:
        trial.set_user_attr(FAILURE, error.message)
        study.tell(trial, state=TrialState.FAIL)
        print(f"trial {trial.number}: failed: {error.message}", flush=True)
    else:
        study.tell(trial, result.scores.macro_f1)
        print(f"trial {trial.number}: macro-F1 {result.scores.macro_f1:.4f}", flush=True)


def _indented(line: str) -> None:
    print(f"  {line}", flush=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _why(trials: list[FrozenTrial]) -> str:
    """Return how the trials ended, for a search without a result."""
    failures = [trial.user_attrs[FAILURE] for trial in trials if FAILURE in trial.user_attrs]
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    interrupted = sum(bool(trial.user_attrs.get(INTERRUPTED)) for trial in trials)
    last = f"; the last failure: {failures[-1]}" if failures else ""
    return f"{len(failures)} failed, {pruned} were pruned, {interrupted} were interrupted{last}"

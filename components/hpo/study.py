"""The Optuna study: its identity, and how its trials count."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from components.hpo.pruners import make_pruner
from components.hpo.settings import Search, pruning
from components.hpo.storage import Place, TurnLost

INTERRUPTED = "interrupted"
"""Attribute of a trial whose worker died: it counts for nothing, and its point was given to another trial."""
DUPLICATE = "duplicate"
"""Attribute of a trial that drew the point of another one: it never ran, and counts for nothing."""
RETRY = "retry_of"
"""Attribute of a trial that has the point of one whose worker died: the number of that one."""
FAILURE = "failure"
LEASE = "lease"
"""Attribute of a running trial: [its worker, the time (seconds since 1970) until which the worker counts as alive]."""
HYPERPARAMETERS = "hyperparameters"
"""Attribute of a trial: what it trains with. Not its parameters: a number may be rounded to a grid, or the point be given."""
BEGAN = "began"
ENDED = "ended"
"""Attributes of a trial: when it was claimed and when it was told, in seconds since 1970."""
LOST_TWICE = "its worker died, as the one before it did on the same point"


def study_identity(parts: Mapping[str, Any]) -> str:
    """Return the identity of a study: a hash of all that a trial's value depends on, and of Optuna's major version.

    The number of trials is no part of it: a larger budget goes on with the same study.
    """
    whole = {**parts, "optuna": optuna.__version__.split(".")[0]}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def search_parts(search: Search) -> dict[str, Any]:
    """Return what of the settings makes another study. What is left at its default is left out, so that old studies go on."""
    parts: dict[str, Any] = {"seed": search.seed, "sampler": search.sampler, "pruner": search.pruner}
    if search.pruning:
        parts["pruning"] = pruning(search)
    if search.folds:
        parts["folds"] = search.folds
    if len(search.objectives) > 1:
        parts["objectives"] = list(search.objectives)
    if search.study:
        parts["study"] = search.study
    return parts


def open_study(storage: BaseStorage, identity: str, search: Search) -> optuna.Study:
    """Open the study of `identity`, or make it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=identity,
        storage=storage,
        directions=["maximize", "minimize"][: len(search.objectives)],
        load_if_exists=True,
        pruner=make_pruner(search),
    )


def open_in_turn(place: Place, identity: str, search: Search) -> optuna.Study:
    """Open the study of `identity`, or make it, while no other worker does."""
    while True:
        try:
            with place.turn():
                return open_study(place.storage, identity, search)
        except TurnLost:
            continue  # held up in it: another worker has made the study meanwhile, or not


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count against the budget, those that run or wait among them."""
    return [
        trial
        for trial in trials
        if not (trial.state == TrialState.FAIL and {INTERRUPTED, DUPLICATE} & trial.user_attrs.keys())
    ]


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count and have ended."""
    return [trial for trial in counted(trials) if trial.state.is_finished()]


def lose(study: optuna.Study, trial: FrozenTrial) -> None:
    """End a trial whose worker died, and give its point to one new trial, unless it was itself given that way.

    The caller holds the study's turn. The new one comes first, and only if there is none: a kill between the two loses no point
    and tries none twice.
    """
    storage = study._storage
    again = RETRY not in trial.user_attrs
    try:
        if again:
            retried = {other.user_attrs.get(RETRY) for other in study.get_trials(deepcopy=False)}
            if trial.params and trial.number not in retried:
                study.enqueue_trial(dict(trial.params), user_attrs={RETRY: trial.number})
            storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        else:
            storage.set_trial_user_attr(trial._trial_id, FAILURE, LOST_TWICE)
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        return  # it ended after all


def is_lost(trial: FrozenTrial) -> bool:
    """Return whether another worker took the trial's worker for dead and ended it."""
    attributes = trial.user_attrs
    return trial.state == TrialState.FAIL and (INTERRUPTED in attributes or attributes.get(FAILURE) == LOST_TWICE)


def overdue(trial: FrozenTrial) -> bool:
    """Return whether the worker of a running trial has not been heard of for the time of its lease.

    The caller holds the study's turn, so one without a lease is of a worker that lost the turn before it could take one.
    """
    lease = trial.user_attrs.get(LEASE)
    return lease is None or float(lease[1]) < time.time()


def busy_seconds(trials: Sequence[FrozenTrial]) -> float:
    """Return for how long at least one trial ran. An interrupted one is left out: nobody saw when it ended."""
    spans = sorted(_span(trial) for trial in counted(trials) if trial.datetime_start is not None)
    total, until = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(end, until)
    return total


def _span(trial: FrozenTrial) -> tuple[float, float]:
    """Return when a trial began and ended, in seconds since 1970: Optuna's own times are of each worker's time zone."""
    attributes = trial.user_attrs
    assert trial.datetime_start is not None
    start = attributes.get(BEGAN, trial.datetime_start.timestamp())
    if not trial.state.is_finished():
        return start, time.time()
    if ENDED in attributes:
        return start, attributes[ENDED]
    return start, start + (trial.duration.total_seconds() if trial.duration else 0.0)

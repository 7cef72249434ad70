"""The Optuna study on its state volume: identity, storage, samplers, pruners, and what an interruption left behind."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, TrialState

from components.kfp_io import StepError
from components.trainer.settings import unknown

JOURNAL = "journal.log"
INTERRUPTED = "interrupted"
FAILURE = "failure"

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {"tpe": "tree-structured Parzen estimator: learns from earlier trials", "random": "independent draws"}
)
PRUNERS: Mapping[str, str] = MappingProxyType(
    {
        "median": "stops a trial below the median of earlier ones at the same epoch",
        "hyperband": "gives few epochs to many trials, many to the best",
        "none": "every trial runs all its epochs",
    }
)


@dataclass(frozen=True)
class Search:
    """How to search. `epochs` bounds a trial's, for the pruner; `trials` is the budget, for the sampler's start-up."""

    trials: int
    sampler: str
    pruner: str
    seed: int
    epochs: int


def check_search(search: Search) -> None:
    """Raise StepError for an unknown sampler or pruner, or a budget without a trial."""
    if search.sampler not in SAMPLERS:
        raise unknown("sampler", search.sampler, SAMPLERS)
    if search.pruner not in PRUNERS:
        raise unknown("pruner", search.pruner, PRUNERS)
    if search.trials < 1:
        raise StepError(f"trials must be at least 1, got {search.trials}")


def study_identity(parts: Mapping[str, Any]) -> str:
    """Return the identity of a study: a hash of all that a trial's value depends on, and of Optuna's major version.

    The number of trials is no part of it: a larger budget goes on with the same study.
    """
    whole = {**parts, "optuna": optuna.__version__.split(".")[0]}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class _FileLock(BaseJournalFileLock):
    """A lock that the kernel lets go of when its process dies; Optuna's own lock files would outlive a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def sole_worker(folder: Path) -> Iterator[None]:
    """Hold the study in `folder` for this process. Raises StepError if another live process holds it.

    Whoever holds it may take every RUNNING trial for one whose process has died.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "worker.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StepError(
            f"the study's folder {folder} cannot be written: {error.strerror}", hint="is the state volume mounted?"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StepError(
                f"another process works on the study in {folder}", hint="wait until it ends, or stop it"
            ) from error
        yield
    finally:
        os.close(descriptor)


def open_study(folder: Path, search: Search) -> optuna.Study:
    """Open the study in `folder`, or make it. Trials that were running when their process died are marked failed.

    The caller must hold `sole_worker(folder)`.
    """
    journal = folder / JOURNAL
    _drop_half_written_line(journal)
    storage = optuna.storages.JournalStorage(
        JournalFileBackend(str(journal), lock_obj=_FileLock(folder / "journal.lock"))
    )
    study = optuna.create_study(
        study_name=folder.name, storage=storage, direction="maximize", load_if_exists=True, pruner=make_pruner(search)
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _drop_half_written_line(journal: Path) -> None:
    """Cut off a last line without its end: a kill leaves it, and Optuna would append to it and then refuse the file."""
    if not journal.exists():
        return
    with journal.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def spent(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count against the budget: all but the interrupted ones."""
    return [trial for trial in study.get_trials(deepcopy=False) if not trial.user_attrs.get(INTERRUPTED, False)]


def make_sampler(search: Search, slot: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the trial that fills `slot` of the budget.

    Each slot has a seed of its own, so that a study that was interrupted draws what it would have drawn without that.
    """
    seed = int.from_bytes(hashlib.sha256(f"{search.seed}/{slot}".encode()).digest()[:4])
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # TPE's own start-up of 10 random trials would make a small budget all random.
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(2, search.trials // 2)))


def make_pruner(search: Search) -> optuna.pruners.BasePruner:
    """Return the pruner; steps are epochs, from 1."""
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max(1, search.epochs), reduction_factor=3)
    if search.pruner == "median":
        # Optuna's start-up of 5 complete trials would never let a small budget prune.
        return optuna.pruners.MedianPruner(n_startup_trials=min(5, max(1, search.trials // 3)), n_warmup_steps=0)
    return optuna.pruners.NopPruner()

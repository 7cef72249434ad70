"""A worker of a study: claims a trial, runs it under a lease, tells how it ended, until the budget is spent.

Any number of workers may do so on one storage. What must not happen twice (the next point, the last place in the budget, a dead
worker's trial) is decided in the study's turn, which one worker has at a time; trials run outside it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from components.hpo.samplers import budget, free_point, make_sampler, point_of, taken
from components.hpo.search_space import SearchSpace
from components.hpo.settings import Search
from components.hpo.storage import Place, TurnLost
from components.hpo.study import (
    BEGAN,
    DUPLICATE,
    ENDED,
    FAILURE,
    HYPERPARAMETERS,
    INTERRUPTED,
    LEASE,
    busy_seconds,
    counted,
    is_lost,
    lose,
    overdue,
)
from components.tracking_file import TrackingFile

_POLL = 0.5
"""Seconds between looks at trials of other workers, once nothing else is left to do."""


class TrialFailed(Exception):
    """A trial that cannot have a value, such as a training that diverged. The search goes on."""


@dataclass(frozen=True)
class Trained:
    """A trial's values, one for each objective, and what else is kept with it."""

    values: tuple[float, ...]
    kept: Mapping[str, Any] = field(default_factory=dict)


Report = Callable[[int, float], None]
"""`report(step, score)`: steps from 1 on. Raises what ends the trial early."""
Objective = Callable[[Mapping[str, Any], Report], Trained]
"""Runs one trial of the hyperparameters. Raises TrialFailed."""
_Claim = tuple[Trial, dict[str, Any]]
"""A trial and its hyperparameters."""


class Worker:
    """One worker of one study."""

    def __init__(
        self,
        study: optuna.Study,
        place: Place,
        space: SearchSpace,
        search: Search,
        objective: Objective,
        *,
        name: str = "0",
        given: Mapping[str, Any] | None = None,
        tracking: TrackingFile | None = None,
    ) -> None:
        """`given`: the hyperparameters of every trial, in place of a draw."""
        self._study = study
        self._place = place
        self._space = space
        self._search = search
        self._objective = objective
        self._name = f"{name}-{uuid.uuid4().hex[:8]}"
        self._given = given
        self._tracking = tracking or TrackingFile("")
        self._budget = budget(search, space) if given is None else search.trials
        self._exhausted = False

    def run(self) -> int:
        """Run trials until the budget is spent and no other worker runs one; return how many ran here."""
        done = 0
        while (claimed := self._claim()) is not None:
            self._run(*claimed)
            done += 1
        return done

    def _claim(self) -> _Claim | None:
        """Return the next trial and its hyperparameters; None once there is none left and nobody else may leave one."""
        while True:
            try:
                with self._place.turn():
                    claimed, over = self._look()
            except (TurnLost, optuna.exceptions.UpdateFinishedTrialError):
                # What was claimed in it runs out as the trial of a dead worker does, or did so already.
                print(
                    "held up for longer than the lease, in the study's turn: what was claimed is given up", flush=True
                )
                continue
            if claimed or over:
                return claimed
            time.sleep(_POLL)

    def _look(self) -> tuple[_Claim | None, bool]:
        """Return the next trial if there is one now, and whether there will be none any more. The caller holds the turn."""
        self._bury()
        trials = self._study.get_trials(deepcopy=False)
        waits = any(trial.state == TrialState.WAITING for trial in trials)
        claimed = None
        if self._search.minutes and busy_seconds(trials) >= self._search.minutes * 60:
            for trial in trials:
                if trial.state == TrialState.WAITING:  # a retry that the time does not allow
                    self._end(trial._trial_id, INTERRUPTED)
        elif waits:
            claimed = self._ask(len(counted(trials)) - 1, waits=True)
        elif len(counted(trials)) < self._budget and not self._exhausted:
            claimed = self._ask(len(counted(trials)), waits=self._given is not None)
            self._exhausted = claimed is None
        return claimed, not any(trial.state == TrialState.RUNNING for trial in trials)

    def _bury(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if overdue(trial):
                print(f"trial {trial.number}: its worker has not been heard of", flush=True)
                self._tracking.trial(trial.number, "FAIL", study=self._study.study_name)
                lose(self._study, trial)

    def _ask(self, slot: int, *, waits: bool) -> _Claim | None:
        """Return a new trial, at a point that no other has or had; None if there seems to be no such point.

        `waits`: whether its point is fixed already. The caller holds the turn.
        """
        before = self._study.get_trials(deepcopy=False)
        for fixed in (waits, True):
            if not waits and (fixed or self._search.sampler == "grid"):
                point = free_point(self._search, slot, self._space, before)
                if point is None:
                    return None
                self._study.enqueue_trial(point)
                fixed = True
            self._study.sampler = make_sampler(self._search, slot)
            trial = self._study.ask()
            now = time.time()
            trial.set_user_attr(LEASE, [self._name, now + self._search.lease_seconds])
            trial.set_user_attr(BEGAN, now)
            sampled = self._space.sample(trial) if self._given is None else dict(self._given)
            if fixed or point_of(sampled) not in taken(before):
                break
            self._end(trial._trial_id, DUPLICATE)
        trial.set_user_attr(HYPERPARAMETERS, sampled)
        return trial, sampled

    def _end(self, trial_id: int, why: str) -> None:
        self._study._storage.set_trial_user_attr(trial_id, why, True)
        self._study._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _run(self, trial: Trial, sampled: Mapping[str, Any]) -> None:
        """Run one trial to its end, its pruning or its failure. Any other error ends the worker, and its trial is retried."""
        told = "  ".join(f"{name}={_short(value)}" for name, value in sampled.items())
        print(f"trial {trial.number}: {told}", flush=True)
        study = self._study.study_name
        self._tracking.trial(trial.number, "RUNNING", study=study, params=dict(sampled))
        one = len(self._search.objectives) == 1
        reported: list[float] = []

        def report(step: int, score: float) -> None:
            reported.append(score)
            self._tracking.metrics({self._search.objectives[0]: score}, step=step, trial=trial.number)
            if one:
                trial.report(score, step)
                if step < self._search.steps and trial.should_prune():
                    raise optuna.TrialPruned

        try:
            with _Lease(self._study, trial, self._name, self._search.lease_seconds):
                end = self._train(trial, sampled, report, reported)
                self._tell(trial, end)
        except (optuna.exceptions.UpdateFinishedTrialError, _Taken):
            # This process was held up for longer than its lease, and another worker has the trial now.
            print(f"trial {trial.number}: given up: its lease ran out, and another worker has its point", flush=True)
            return
        except Exception:
            with self._place.turn():
                lose(self._study, self._study._storage.get_trial(trial._trial_id))
            raise
        self._tracking.trial(
            trial.number,
            end.state.name,
            study=study,
            metrics=dict(zip(self._search.objectives, end.values or (), strict=False)),
        )
        print(f"trial {trial.number}: {end.said}", flush=True)

    def _tell(self, trial: Trial, end: _End) -> None:
        """End the trial as it ended here, once. Raises _Taken or UpdateFinishedTrialError if another worker has ended it."""
        while True:
            try:
                with self._place.turn():
                    now = self._study._storage.get_trial(trial._trial_id)
                    if is_lost(now):
                        raise _Taken
                    if not now.state.is_finished():
                        for name, value in {**end.kept, ENDED: time.time()}.items():
                            trial.set_user_attr(name, value)
                        self._study.tell(trial, end.values, state=end.state)
                    return
            except TurnLost:
                continue  # told in the turn that was lost, or not

    def _train(self, trial: Trial, sampled: Mapping[str, Any], report: Report, reported: list[float]) -> _End:
        """Run the objective and return how the trial is to end."""
        try:
            trained = self._objective(sampled, report)
        except optuna.TrialPruned:
            return _End(TrialState.PRUNED, "pruned")
        except TrialFailed as error:
            return _End(TrialState.FAIL, f"failed: {error}", kept={FAILURE: str(error)})
        said = (
            f"{_WORDS[name]} {value:.4f}" for name, value in zip(self._search.objectives, trained.values, strict=True)
        )
        kept = trained.kept if len(trained.values) == 1 else {**trained.kept, "reported": reported}
        return _End(TrialState.COMPLETE, "  ".join(said), list(trained.values), kept)


@dataclass(frozen=True)
class _End:
    """How a trial ends, and in words."""

    state: TrialState
    said: str
    values: list[float] | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)


class _Taken(Exception):
    """The trial was ended by another worker, which took this one for dead."""


_WORDS = {"macro_f1": "macro-F1", "latency_ms": "latency in ms"}


class _Lease:
    """Says again and again, while a trial runs, that its worker lives."""

    def __init__(self, study: optuna.Study, trial: Trial, worker: str, seconds: float) -> None:
        self._storage = study._storage
        self._trial_id = trial._trial_id
        self._worker = worker
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> _Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._seconds / 4):
            try:
                self._storage.set_trial_user_attr(self._trial_id, LEASE, [self._worker, time.time() + self._seconds])
            except optuna.exceptions.UpdateFinishedTrialError:
                return
            except Exception as error:  # noqa: BLE001  # a database that is away for a moment: the next beat may reach it
                print(f"the lease could not be renewed: {type(error).__name__}", flush=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

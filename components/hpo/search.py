"""The search itself: what a trial trains, on which documents, and how the best one is chosen."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from components.hpo.folds import Folds, make_folds
from components.hpo.samplers import budget
from components.hpo.search_space import SearchSpace, canonical
from components.hpo.settings import Search
from components.hpo.storage import Place, open_place
from components.hpo.study import (
    DUPLICATE,
    FAILURE,
    INTERRUPTED,
    busy_seconds,
    finished,
    lose,
    open_in_turn,
    open_study,
    search_parts,
    study_identity,
)
from components.hpo.work import Objective, Report, Trained, TrialFailed, Worker
from components.kfp_io import StepError
from components.trainer.backbone import read_backbone
from components.trainer.data import TrainingData
from components.trainer.model import load_tokenizer
from components.trainer.settings import TrainingSettings, parse_hyperparameters
from components.trainer.tracking import NoTracking, Tracking
from components.trainer.training import Diverged, Result, model_tagger, train

if TYPE_CHECKING:
    from components.tracking_file import TrackingFile

_TIMED = 20
"""Documents whose latency is taken, and how often each is tagged."""
_ROUNDS = 3
_DRY_DOCUMENTS = 4
_DRY_TRIALS = 2


@dataclass(frozen=True)
class Question:
    """What is searched for: all that a trial's value depends on."""

    data: TrainingData
    backbone: Path
    space: SearchSpace
    settings: TrainingSettings
    search: Search

    def identity(self) -> str:
        """Return the identity of its study."""
        return study_identity(
            {
                "dataset": self.data.content_sha256,
                "backbone": read_backbone(self.backbone).text,
                "space": canonical(self.space),
                "training": dataclasses.asdict(self.settings),
                **search_parts(self.search),
            }
        )


@dataclass(frozen=True)
class Outcome:
    """A finished search: its trials in order, the best of those that ran to their end, and by which rule it is the best."""

    identity: str
    trials: list[FrozenTrial]
    best: FrozenTrial
    rule: str
    folds: Mapping[str, Any] | None
    study: optuna.Study


def run_search(
    question: Question,
    state: Path,
    *,
    url: str = "",
    given: Mapping[str, Any] | None = None,
    tracking: Tracking | None = None,
    file: TrackingFile | None = None,
) -> Outcome:
    """Run trials until the budget is spent, going on with the study of the same question, and close it.

    The study lies in PostgreSQL at `url`, else below `state`. Every trial has the hyperparameters `given`, if there are any, in
    place of a draw; each epoch is told to `tracking`. Raises StepError if no trial ran to its end.
    """
    search = question.search
    folds = _folds(question)
    with _opened(question, state, url, sole=True) as (place, study):
        identity = study.study_name
        done = len(finished(study.get_trials(deepcopy=False)))
        print(f"study {identity}: {done} of {search.trials} trials are done", flush=True)
        if search.dry_run and not done:
            _dry_run(question)
        objective = make_objective(question, folds, tracking or NoTracking())
        Worker(study, place, question.space, search, objective, given=given, tracking=file).run()
        trials = [trial for trial in study.get_trials() if DUPLICATE not in trial.user_attrs]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise StepError(f"no trial of {len(trials)} ran to its end", hint=_why(trials))
    best, rule = choose(complete, search)
    record = folds.as_json(_pool(question.data)) if folds else None
    return Outcome(identity, trials, best, rule, record, study)


def help_search(question: Question, state: Path, name: str, *, url: str = "", file: TrackingFile | None = None) -> int:
    """Work on the study as one of several workers until its budget is spent; return how many trials ran here."""
    search = question.search
    with _opened(question, state, url, sole=False) as (place, study):
        if search.dry_run and not finished(study.get_trials(deepcopy=False)):
            _dry_run(question)
        objective = make_objective(question, _folds(question), NoTracking())
        return Worker(study, place, question.space, search, objective, name=name, tracking=file).run()


def choose(complete: Sequence[FrozenTrial], search: Search) -> tuple[FrozenTrial, str]:
    """Return the best of the complete trials and the rule that says so. Equals: the earlier trial."""
    scores = [trial.values[0] for trial in complete]
    if len(search.objectives) == 1:
        best = max(complete, key=lambda trial: (trial.values[0], -trial.number))
        return best, "the highest macro-F1"
    near = [trial for trial in complete if trial.values[0] >= max(scores) - search.tolerance]
    best = min(near, key=lambda trial: (trial.values[1], -trial.values[0], trial.number))
    return best, f"the fastest whose macro-F1 is at most {search.tolerance:g} below the highest, {max(scores):.4f}"


def make_objective(question: Question, folds: Folds | None, tracking: Tracking) -> Objective:
    """Return what runs one trial: one training, or one for each fold, whose mean is the trial's value."""
    search, settings = question.search, question.settings
    parts = [question.data] if folds is None else _parts(question.data, folds)

    def run(sampled: Mapping[str, Any], report: Report) -> Trained:
        hyperparameters = parse_hyperparameters(sampled, settings)
        tracking.start(dataclasses.asdict(hyperparameters), settings)
        scores: list[float] = []
        latencies: list[float] = []
        for fold, data in enumerate(parts):
            on_epoch = _reporter(report, tracking, fold * settings.epochs, None if folds is None else scores)
            try:
                result = train(data, question.backbone, hyperparameters, settings, search.seed, on_epoch, _indented)
            except Diverged as error:
                raise TrialFailed(error.message) from error
            scores.append(result.scores.macro_f1)
            if "latency_ms" in search.objectives:
                latencies.append(_latency(result, data, question.backbone))
        values = (statistics.mean(scores), *([statistics.mean(latencies)] if latencies else []))
        spread = {"folds": scores, "spread": statistics.stdev(scores)} if folds else {}
        return Trained(values, spread)

    return run


def _reporter(
    report: Report, tracking: Tracking, before: int, earlier: Sequence[float] | None
) -> Callable[[int, float], None]:
    """Return what a training tells its epochs to: the score itself; with folds the mean of the folds so far, each at its best, so
    that any two trials can be compared at any step. `before`: steps of the folds before this one; `earlier`: their scores."""
    best = -1.0

    def on_epoch(epoch: int, macro_f1: float) -> None:
        nonlocal best
        best = max(best, macro_f1)
        tracking.epoch(before + epoch, macro_f1)
        report(before + epoch, macro_f1 if earlier is None else statistics.mean([*earlier, best]))

    return on_epoch


def _latency(result: Result, data: TrainingData, backbone: Path) -> float:
    """Return the median time of one validation document in milliseconds, each at its fastest of three."""
    tagger = model_tagger(result.model, load_tokenizer(backbone), result.labels, result.window)
    found = []
    for document in data.validation[:_TIMED]:
        times = []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            tagger.tag(document.text)
            times.append(time.perf_counter() - started)
        found.append(min(times) * 1000)
    return statistics.median(found)


def _pool(data: TrainingData) -> list[Any]:
    return [*data.train, *data.validation]


def _folds(question: Question) -> Folds | None:
    if question.search.sampler == "grid":
        question.space.check_finite()
    count = question.search.folds
    return make_folds(_pool(question.data), count, question.search.seed) if count else None


def _parts(data: TrainingData, folds: Folds) -> list[TrainingData]:
    pool = _pool(data)
    return [
        dataclasses.replace(
            data, train=[pool[index] for index in folds.train(fold)], validation=[pool[index] for index in members]
        )
        for fold, members in enumerate(folds.members)
    ]


@contextmanager
def _opened(question: Question, state: Path, url: str, *, sole: bool) -> Iterator[tuple[Place, optuna.Study]]:
    """Open the study of a question, alone or beside other workers. Raises StepError as `open_place` and `_check_reusable` do."""
    identity, search = question.identity(), question.search
    bury, lease = _burier(identity, search), search.lease_seconds
    with open_place(state, identity, url, sole=sole, lease=lease, bury=bury) as place:
        study = open_in_turn(place, identity, search)
        _check_reusable(study, question)
        yield place, study


def _burier(identity: str, search: Search) -> Callable[[BaseStorage], None]:
    """Return what ends the running trials of a study that no process works on."""

    def bury(storage: BaseStorage) -> None:
        study = open_study(storage, identity, search)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lose(study, trial)

    return bury


def _check_reusable(study: optuna.Study, question: Question) -> None:
    """Raise StepError if nothing may be trained and something would be."""
    search = question.search
    if search.mode != "reuse":
        return
    trials = study.get_trials(deepcopy=False)
    done, wanted = len(finished(trials)), budget(search, question.space)
    in_time = search.minutes and busy_seconds(trials) >= search.minutes * 60
    if done < wanted and not in_time:
        raise StepError(
            f"mode reuse: study {study.study_name} has {done} of {wanted} trials",
            hint="mode resume goes on with it",
        )


def _dry_run(question: Question) -> None:
    """Train on a handful of documents for an epoch, at two points of the space, so that what cannot work is known in seconds."""
    started = time.perf_counter()
    data = dataclasses.replace(
        question.data,
        train=question.data.train[:_DRY_DOCUMENTS],
        validation=question.data.validation[:_DRY_DOCUMENTS],
    )
    one = dataclasses.replace(question.settings, epochs=1)
    search = dataclasses.replace(question.search, folds=0)
    objective = make_objective(
        dataclasses.replace(question, data=data, settings=one, search=search), None, NoTracking()
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=search.seed))
    for _ in range(_DRY_TRIALS):
        try:
            objective(question.space.sample(study.ask()), lambda step, score: None)
        except TrialFailed as error:
            print(f"dry run: a point of the space failed: {error}", flush=True)
    print(f"dry run: {_DRY_TRIALS} trainings of one epoch in {time.perf_counter() - started:.1f} s", flush=True)


def _indented(line: str) -> None:
    print(f"  {line}", flush=True)


def _why(trials: list[FrozenTrial]) -> str:
    """Return how the trials ended, for a search without a result."""
    failures = [trial.user_attrs[FAILURE] for trial in trials if FAILURE in trial.user_attrs]
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    interrupted = sum(bool(trial.user_attrs.get(INTERRUPTED)) for trial in trials)
    last = f"; the last failure: {failures[-1]}" if failures else ""
    return f"{len(failures)} failed, {pruned} were pruned, {interrupted} were interrupted{last}"

"""What workers and what pruning buy a search."""

from __future__ import annotations

import contextlib
import io
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.command import compile_pipeline, intermodal
from benchmarks.figures import Figure

_WORKERS = 4
_TRIALS, _SECONDS = 24, 1.5
_SEEDS = 5
_WITHIN = 0.005
"""Half a point of macro-F1."""
_DOCUMENTS: Mapping[str, int] = {"train": 40, "validation": 20, "test": 4}
_FILES: Mapping[str, str] = {"train": "train", "validation": "dev", "test": "test"}
_LONGEST = 1000
_T_95 = 2.776
"""Student's t, 97.5 %, of five seeds."""


def workers(folder: Path) -> list[Figure]:
    """Trials that sleep, each worker a process: one, then four on the same study, on a journal and on a real PostgreSQL."""
    from tests.support.postgres import postgres

    with postgres() as url:
        return [_workers(folder / "journal", "", "a journal"), _workers(folder / "database", url, "PostgreSQL")]


def _workers(folder: Path, url: str, where: str) -> Figure:
    alone = _share(folder, url, 1)
    shared = _share(folder, url, _WORKERS)
    factor = alone / shared
    return Figure(
        f"{_TRIALS} trials of {_SECONDS} s, {_WORKERS} worker processes on one study in {where}",
        f"{shared:.2f} s",
        f"one worker: {alone:.2f} s",
        f"{factor:.2f} × faster",
        "≥ 3.6 × faster",
        factor >= 3.6,
    )


def _share(folder: Path, url: str, count: int) -> float:
    """Return the seconds from the first trial's start to the last one's end, of `count` workers that begin together."""
    from optuna import load_study

    from components.hpo.storage import open_place

    spawn = multiprocessing.get_context("spawn")
    start, study = spawn.Barrier(count), f"study-of-{count}"
    children = [spawn.Process(target=_work, args=(folder, url, study, start, number)) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise RuntimeError("a worker failed")
    with open_place(folder, study, url, sole=True, bury=lambda storage: None) as place:
        trials = load_study(study_name=study, storage=place.storage).trials
    if len(trials) != _TRIALS:
        raise RuntimeError(f"{len(trials)} trials, expected {_TRIALS}")
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    return (max(ends) - min(trial.datetime_start for trial in trials if trial.datetime_start)).total_seconds()


def _work(folder: Path, url: str, study_name: str, start: Barrier, number: int) -> None:
    from components.hpo.search_space import parse_search_space
    from components.hpo.settings import Search
    from components.hpo.storage import open_place
    from components.hpo.study import open_in_turn
    from components.hpo.work import Report, Trained, Worker

    def sleep(point: Mapping[str, Any], report: Report) -> Trained:
        time.sleep(_SECONDS)
        return Trained((point["dropout"],))

    space = parse_search_space({"dropout": {"type": "uniform", "min": 0, "max": 0.9}})
    search = Search(_TRIALS, "tpe", "none", seed=1, epochs=1)
    with open_place(folder, study_name, url, sole=False, bury=lambda storage: None) as place:
        study = open_in_turn(place, study_name, search)
        start.wait()
        with contextlib.redirect_stdout(io.StringIO()):
            Worker(study, place, space, search, sleep, name=str(number)).run()


def pruning(folder: Path) -> list[Figure]:
    """TPE with ASHA against random search without pruning: epochs until within half a point of the best of the random search."""
    from benchmarks.search_pipeline import searches

    path = compile_pipeline(searches(list(range(1, _SEEDS + 1))), folder)
    _, result = intermodal(path, "--arg", f"data={_documents(folder / 'data')}", state=folder / "state")
    outputs = Path(result["folder"]) / "outputs"
    plain, pruned = ([_scores(outputs / f"{name}-{n}") for n in range(_SEEDS)] for name in ("plain", "pruned"))
    reach, whole = [], []
    missed = 0
    for random, ours in zip(plain, pruned, strict=True):
        target = max(random) - _WITHIN
        took = _epochs_to(ours, target)
        missed += took is None
        spent = took or len(ours)
        reach.append(spent / (_epochs_to(random, target) or len(random)))
        whole.append(spent / len(random))
    note = f", {missed} of {_SEEDS} never" if missed else ""
    return [
        _figure(f"epochs to within 0.5 points of random search's best, TPE with ASHA, {_SEEDS} seeds{note}", reach),
        _figure("the same, to all epochs of the random search", whole),
    ]


def _documents(folder: Path) -> Path:
    """Write short generated documents into `folder`: enough that one epoch tells a good point from a bad one, few enough for minutes."""
    from components.dataset.generator import generate

    folder.mkdir()
    for split, documents in generate("small", 13).items():
        short = [document for document in documents if len(document.text) <= _LONGEST][: _DOCUMENTS[split]]
        lines = [
            json.dumps({"text": found.text, "annotations": [list(span) for span in found.spans]}) for found in short
        ]
        (folder / f"{_FILES[split]}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _scores(folder: Path) -> list[float]:
    """Return the macro-F1 of each epoch of a study, in the order in which they were spent."""
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return [score for trial in study["trials"] for score in trial["reported"]]


def _epochs_to(scores: Sequence[float], target: float) -> int | None:
    return next((number for number, score in enumerate(scores, start=1) if score >= target), None)


def _figure(what: str, ratios: Sequence[float]) -> Figure:
    """Return the geometric mean of the ratios with its 95 % interval, by Student's t on their logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    middle = statistics.mean(logs)
    half = _T_95 * statistics.stdev(logs) / math.sqrt(len(logs))
    ratio = math.exp(middle)
    interval = f"{ratio:.2f} ({math.exp(middle - half):.2f} to {math.exp(middle + half):.2f})"
    return Figure(what, "", "random search without pruning", interval, "≤ 0.5 ×", ratio <= 0.5)

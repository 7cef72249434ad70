"""What a search leaves: best parameters, the study, a table of trials and a page to read."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from components.hpo.search import Outcome
from components.hpo.settings import Search
from components.hpo.storage import JOURNAL, open_journal
from components.hpo.study import FAILURE, HYPERPARAMETERS, INTERRUPTED, RETRY
from components.kfp_io import write_json

_COLUMNS = ("trial", "state", "macro_f1", "epochs", "seconds")
_MORE_COLUMNS = ("latency_ms", "spread")


def best_parameters(outcome: Outcome) -> dict[str, Any]:
    """Return the hyperparameters of the best trial, as the trainer takes them."""
    return dict(outcome.best.user_attrs[HYPERPARAMETERS])


def write_study(folder: Path, outcome: Outcome, search: Search) -> None:
    """Write the study as a journal, which Optuna can open again, and study.json, which anything can read, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOURNAL).unlink(missing_ok=True)
    optuna.copy_study(
        from_study_name=outcome.identity, from_storage=outcome.study._storage, to_storage=open_journal(folder)
    )
    (folder / "journal.lock").unlink()
    document: dict[str, Any] = {
        "schema_version": 2,
        "identity": outcome.identity,
        "objective": _objective(search),
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": search.seed,
        "best_trial": outcome.best.number,
        "best_value": outcome.best.values[0],
        "best_rule": outcome.rule,
        "trials": [_row(trial) for trial in outcome.trials],
    }
    if outcome.folds is not None:
        document["cross_validation"] = dict(outcome.folds)
    if len(search.objectives) > 1:
        document["pareto_front"] = _front(outcome)
    write_json(folder / "study.json", document)


def write_table(path: Path, outcome: Outcome) -> None:
    """Write one CSV row a trial: number, state, value, epochs, seconds, what else was measured, then each hyperparameter."""
    rows = [_row(trial) for trial in outcome.trials]
    names = sorted({name for row in rows for name in row["hyperparameters"]})
    columns = [*_COLUMNS, *(name for name in _MORE_COLUMNS if any(name in row for row in rows))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *names])
        for row in rows:
            values = [row["hyperparameters"].get(name, "") for name in names]
            writer.writerow([row.get(key) for key in columns] + values)


def write_summary(path: Path, outcome: Outcome, search: Search, backbone: str) -> None:
    """Write the search as a Markdown page: the best parameters and how each trial ended."""
    rows = [_row(trial) for trial in outcome.trials]
    names = sorted({name for row in rows for name in row["hyperparameters"]})
    more = [name for name in _MORE_COLUMNS if any(name in row for row in rows)]
    score = "mean" if outcome.folds else "Best"
    lines = [
        f"# Hyperparameter search: {backbone}",
        "",
        f"{'Best ' if outcome.folds else ''}{score} validation span macro-F1 **{outcome.best.values[0]:.4f}** in trial "
        f"{outcome.best.number}, of {len(rows)} ({search.sampler} sampler, {search.pruner} pruner, seed {search.seed}).",
        "",
        f"It is {outcome.rule}.",
        "",
        f"| trial | state | macro-F1 | epochs | {' | '.join([*more, *names])} |",
        f"|---|---|---|---|{'---|' * len([*more, *names])}",
    ]
    for row in rows:
        values = [_cell(row.get(name)) for name in more] + [_cell(row["hyperparameters"].get(name)) for name in names]
        lines.append(
            f"| {row['trial']} | {row['state']} | {_cell(row['macro_f1'])} | {row['epochs']} | {' | '.join(values)} |"
        )
    if len(search.objectives) > 1:
        lines += ["", f"Pareto front: trials {', '.join(map(str, _front(outcome)))}."]
    if outcome.folds:
        lines += ["", f"{search.folds} folds of documents; `spread` is the standard deviation over them."]
    lines += ["", f"Study `{outcome.identity}`."]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def metrics(outcome: Outcome) -> dict[str, Any]:
    """Return the scalars of the search for ExecutorOutput."""
    rows = [_row(trial) for trial in outcome.trials]
    states = [row["state"] for row in rows]
    found = {"validation_macro_f1": outcome.best.values[0], "best_trial": outcome.best.number}
    found |= {f"trials_{state}": states.count(state) for state in ("complete", "pruned", "failed", "interrupted")}
    best = _row(outcome.best)
    return found | {name: best[name] for name in _MORE_COLUMNS if name in best}


def _objective(search: Search) -> str:
    score = "mean of the folds' validation span macro-F1" if search.folds else "validation span macro-F1"
    return score + (", and latency of one document in ms" if len(search.objectives) > 1 else "")


def _front(outcome: Outcome) -> list[int]:
    return [trial.number for trial in outcome.study.best_trials]


def _row(trial: FrozenTrial) -> dict[str, Any]:
    """Return one trial as plain values. `macro_f1` is its value, else the best that it reported, None if it reported nothing."""
    reported = trial.user_attrs.get("reported") or [value for _, value in sorted(trial.intermediate_values.items())]
    duration = trial.duration
    complete = trial.state == TrialState.COMPLETE
    row = {
        "trial": trial.number,
        "state": _state(trial),
        "macro_f1": trial.values[0] if complete else max(reported, default=None),
        "epochs": len(reported),
        "reported": reported,
        "seconds": round(duration.total_seconds(), 3) if duration else None,
        "hyperparameters": trial.user_attrs.get(HYPERPARAMETERS, {}),
        "failure": trial.user_attrs.get(FAILURE),
    }
    if complete and len(trial.values) > 1:
        row["latency_ms"] = trial.values[1]
    if "folds" in trial.user_attrs:
        row |= {name: trial.user_attrs[name] for name in ("folds", "spread")}
    if RETRY in trial.user_attrs:
        row["retry_of"] = trial.user_attrs[RETRY]
    return row


def _state(trial: FrozenTrial) -> str:
    if trial.user_attrs.get(INTERRUPTED):
        return "interrupted"
    return {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""What a search leaves: best parameters, the study, a table of trials and a page to read."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from components.hpo.search import Outcome
from components.hpo.study import FAILURE, INTERRUPTED, JOURNAL, Search
from components.kfp_io import write_json


def best_parameters(outcome: Outcome) -> dict[str, Any]:
    """Return the hyperparameters of the best trial, as the trainer takes them."""
    return dict(outcome.best.user_attrs["hyperparameters"])


def write_study(folder: Path, outcome: Outcome, search: Search) -> None:
    """Write the journal, which Optuna can open again, and study.json, which anything can read, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(outcome.folder / JOURNAL, folder / JOURNAL)
    write_json(
        folder / "study.json",
        {
            "schema_version": 1,
            "identity": outcome.identity,
            "objective": "validation span macro-F1",
            "sampler": search.sampler,
            "pruner": search.pruner,
            "seed": search.seed,
            "best_trial": outcome.best.number,
            "best_value": outcome.best.value,
            "trials": [_row(trial) for trial in outcome.trials],
        },
    )


def write_table(path: Path, outcome: Outcome) -> None:
    """Write one CSV row a trial: number, state, value, epochs, seconds, then one column for each hyperparameter."""
    names = sorted({name for trial in outcome.trials for name in trial.user_attrs.get("hyperparameters", {})})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "macro_f1", "epochs", "seconds", *names])
        for trial in outcome.trials:
            row = _row(trial)
            values = [row["hyperparameters"].get(name, "") for name in names]
            writer.writerow([row[key] for key in ("trial", "state", "macro_f1", "epochs", "seconds")] + values)


def write_summary(path: Path, outcome: Outcome, search: Search, backbone: str) -> None:
    """Write the search as a Markdown page: the best parameters and how each trial ended."""
    best = best_parameters(outcome)
    lines = [
        f"# Hyperparameter search: {backbone}",
        "",
        f"Best validation span macro-F1 **{outcome.best.value:.4f}** in trial {outcome.best.number}, of "
        f"{len(outcome.trials)} ({search.sampler} sampler, {search.pruner} pruner, seed {search.seed}).",
        "",
        f"| trial | state | macro-F1 | epochs | {' | '.join(best)} |",
        f"|---|---|---|---|{'---|' * len(best)}",
    ]
    for trial in outcome.trials:
        row = _row(trial)
        score = "" if row["macro_f1"] is None else f"{row['macro_f1']:.4f}"
        values = [_cell(row["hyperparameters"].get(name)) for name in best]
        lines.append(f"| {row['trial']} | {row['state']} | {score} | {row['epochs']} | {' | '.join(values)} |")
    lines += ["", f"Study `{outcome.identity}`."]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def metrics(outcome: Outcome) -> dict[str, Any]:
    """Return the scalars of the search for ExecutorOutput."""
    states = [_row(trial)["state"] for trial in outcome.trials]
    counts = {f"trials_{state}": states.count(state) for state in ("complete", "pruned", "failed", "interrupted")}
    return {"validation_macro_f1": outcome.best.value, "best_trial": outcome.best.number, **counts}


def _row(trial: FrozenTrial) -> dict[str, Any]:
    """Return one trial as plain values. `macro_f1` is the best that it reported, None if it reported nothing."""
    reported = [value for _, value in sorted(trial.intermediate_values.items())]
    duration = trial.duration
    return {
        "trial": trial.number,
        "state": _state(trial),
        "macro_f1": max(reported, default=None),
        "epochs": len(reported),
        "reported": reported,
        "seconds": round(duration.total_seconds(), 3) if duration else None,
        "hyperparameters": trial.user_attrs.get("hyperparameters", {}),
        "failure": trial.user_attrs.get(FAILURE),
    }


def _state(trial: FrozenTrial) -> str:
    if trial.user_attrs.get(INTERRUPTED):
        return "interrupted"
    return {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

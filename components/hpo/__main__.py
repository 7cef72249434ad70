"""Entry of the step's container: search hyperparameters for one backbone."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from components.hpo.search_space import parse_search_space, read_trial
from components.kfp_io import StepError, json_argument, mounted, run_step, write_executor_output, write_json
from components.trainer.settings import parse_training
from components.trainer.tracking import open_tracking

TRIAL = "INTERMODAL_TRIAL"
"""Variable with the hyperparameters of one trial, as JSON: somebody else (a sweep of AzureML) searches, and this is one of its trials."""


def main(argv: Sequence[str]) -> None:
    """Parse `argv`, search, write the outputs. Raises StepError."""
    parser = argparse.ArgumentParser(prog="components.hpo", description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder")
    parser.add_argument("--backbone", type=Path, required=True, help="backbone folder")
    parser.add_argument("--search-space", required=True, help="JSON object")
    parser.add_argument("--training", default="{}", help="JSON object")
    parser.add_argument("--trials", type=int, required=True, help="how many trials the study is to have")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pruner", default="median")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, else all cores")
    parser.add_argument("--state", default="/state", help="folder that outlives this process; studies lie in it")
    parser.add_argument("--best-parameters", type=Path, required=True, help="output: JSON object")
    parser.add_argument("--study", type=Path, required=True, help="output: folder")
    parser.add_argument("--trials-table", type=Path, required=True, help="output: CSV")
    parser.add_argument("--summary", type=Path, required=True, help="output: Markdown")
    parser.add_argument("--executor-output", type=Path, help="output: metrics")
    arguments = parser.parse_args(argv)
    if arguments.threads > 0:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # torch reads it when it is imported
    space = parse_search_space(json_argument(arguments.search_space, "--search-space"))
    settings = parse_training(json_argument(arguments.training, "--training"))
    if settings.all_data:
        raise StepError(
            "training setting all_data leaves a search nothing to choose by", hint="it is for a final training"
        )

    # torch and optuna take seconds to import; a typo in the search space should not wait for them.
    from components.hpo import output
    from components.hpo.search import run_search
    from components.hpo.study import Search, check_search
    from components.trainer.backbone import read_backbone
    from components.trainer.data import load_data

    search = Search(arguments.trials, arguments.sampler, arguments.pruner, arguments.seed, settings.epochs)
    check_search(search)
    data = load_data(arguments.dataset)
    trial = os.environ.get(TRIAL)
    with tempfile.TemporaryDirectory() as alone:
        if trial is None:
            outcome = run_search(data, arguments.backbone, space, settings, search, mounted(arguments.state))
        else:
            given = read_trial(json_argument(trial, TRIAL), space)
            search = Search(1, "random", "none", arguments.seed, settings.epochs)
            tracking = open_tracking(os.environ, required=True)
            # One trial leaves nothing to go on with, so its study needs no volume.
            outcome = run_search(data, arguments.backbone, space, settings, search, Path(alone), given, tracking)
        output.write_study(arguments.study, outcome, search)
    output.write_table(arguments.trials_table, outcome)
    output.write_summary(arguments.summary, outcome, search, read_backbone(arguments.backbone).name)
    if arguments.executor_output:
        write_executor_output(arguments.executor_output, {"metrics": output.metrics(outcome)})
    write_json(arguments.best_parameters, output.best_parameters(outcome))
    print(f"best trial {outcome.best.number}: validation macro-F1 {outcome.best.value:.4f}")


if __name__ == "__main__":
    run_step(main)

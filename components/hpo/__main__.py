"""Entry of the step's container: search hyperparameters for one backbone."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.hpo.search_space import parse_search_space, read_trial
from components.hpo.settings import Search, parse_search
from components.kfp_io import StepError, json_argument, mounted, run_step, write_executor_output, write_json
from components.tracking_file import open_tracking_file
from components.trainer.settings import parse_training
from components.trainer.tracking import open_tracking

if TYPE_CHECKING:
    from components.hpo.search import Outcome, Question

TRIAL = "INTERMODAL_TRIAL"
"""Variable with the hyperparameters of one trial, as JSON: somebody else (a sweep of AzureML) searches, and this is one of its trials."""

_OUTPUTS = ("best_parameters", "study", "trials_table", "summary", "plots")


def main(argv: Sequence[str]) -> None:
    """Parse `argv`, search, write the outputs. Raises StepError."""
    arguments = _parser().parse_args(argv)
    if arguments.worker is None and None in [getattr(arguments, name) for name in _OUTPUTS]:
        raise StepError(f"a search needs all of {', '.join('--' + name.replace('_', '-') for name in _OUTPUTS)}")
    if arguments.threads > 0:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # torch reads it when it is imported
    space = parse_search_space(json_argument(arguments.search_space, "--search-space"))
    settings = parse_training(json_argument(arguments.training, "--training"))
    if settings.all_data:
        raise StepError(
            "training setting all_data leaves a search nothing to choose by", hint="it is for a final training"
        )
    search = parse_search(
        json_argument(arguments.search, "--search"),
        trials=arguments.trials,
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        seed=arguments.seed,
        epochs=settings.epochs,
    )

    # torch and optuna take seconds to import; a typo in the search space should not wait for them.
    from components.hpo.search import Question, help_search, run_search
    from components.hpo.storage import take_url
    from components.trainer.data import load_data

    url = take_url(os.environ)
    question = Question(load_data(arguments.dataset), arguments.backbone, space, settings, search)
    state, file = mounted(arguments.state), open_tracking_file()
    if arguments.worker is not None:
        _check_shared(url)
        done = help_search(question, state, arguments.worker, url=url, file=file)
        write_json(arguments.done, {"worker": arguments.worker, "trials": done})
        print(f"worker {arguments.worker}: {done} trials; the study's budget is spent")
    elif TRIAL in os.environ:
        given = read_trial(json_argument(os.environ[TRIAL], TRIAL), space)
        if search.folds or len(search.objectives) > 1:
            raise StepError("a sweep's trial has one training and one score: it takes neither folds nor two objectives")
        question = replace(question, search=Search(1, "random", "none", search.seed, settings.epochs))
        with tempfile.TemporaryDirectory() as alone:
            # One trial leaves nothing to go on with, so its study needs no volume.
            tracking = open_tracking(os.environ, required=True)
            _write(arguments, run_search(question, Path(alone), given=given, tracking=tracking, file=file), question)
    else:
        _write(arguments, run_search(question, state, url=url, file=file), question)


def _check_shared(url: str) -> None:
    """Raise StepError for workers on AzureML without a database: their jobs have nodes of their own, and blobs have no file locks."""
    if not url and "AZUREML_RUN_ID" in os.environ:
        raise StepError(
            "workers on AzureML share a study only in a database, and none is given",
            hint="a secret intermodal-hpo with a key storage-url, the address of a PostgreSQL",
        )


def _write(arguments: argparse.Namespace, outcome: Outcome, question: Question) -> None:
    """Write all outputs."""
    from components.hpo import output
    from components.hpo.plots import write_plots
    from components.trainer.backbone import read_backbone

    output.write_study(arguments.study, outcome, question.search)
    output.write_table(arguments.trials_table, outcome)
    output.write_summary(arguments.summary, outcome, question.search, read_backbone(question.backbone).name)
    write_plots(arguments.plots, outcome, question.search)
    if arguments.executor_output:
        write_executor_output(arguments.executor_output, {"metrics": output.metrics(outcome)})
    write_json(arguments.best_parameters, output.best_parameters(outcome))
    print(f"best trial {outcome.best.number}: validation macro-F1 {outcome.best.values[0]:.4f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="components.hpo", description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder")
    parser.add_argument("--backbone", type=Path, required=True, help="backbone folder")
    parser.add_argument("--search-space", required=True, help="JSON object")
    parser.add_argument("--training", default="{}", help="JSON object")
    parser.add_argument("--search", default="{}", help="JSON object: folds, minutes, objectives, pruning, study, ...")
    parser.add_argument("--trials", type=int, required=True, help="how many trials the study is to have")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pruner", default="median")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, else all cores")
    parser.add_argument("--state", default="/state", help="folder that outlives this process; studies lie in it")
    parser.add_argument("--helpers", help="what the workers reported; a search that follows them waits for it")
    parser.add_argument(
        "--worker", metavar="NAME", help="work on the study beside others, and leave the outputs to who closes it"
    )
    parser.add_argument("--done", type=Path, help="output of a worker: JSON object")
    parser.add_argument("--best-parameters", type=Path, help="output: JSON object")
    parser.add_argument("--study", type=Path, help="output: folder")
    parser.add_argument("--trials-table", type=Path, help="output: CSV")
    parser.add_argument("--summary", type=Path, help="output: Markdown")
    parser.add_argument("--plots", type=Path, help="output: HTML")
    parser.add_argument("--executor-output", type=Path, help="output: metrics")
    return parser


if __name__ == "__main__":
    run_step(main)

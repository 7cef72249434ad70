"""Entry of the step's container: fine-tune one backbone with given hyperparameters."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.kfp_io import json_argument, run_step, write_executor_output
from components.trainer.settings import parse_hyperparameters, parse_training, read_assignments
from components.trainer.tracking import open_tracking, score_name


def main(argv: Sequence[str]) -> None:
    """Parse `argv`, train, write the model folder and the metrics. Raises StepError."""
    parser = argparse.ArgumentParser(prog="components.trainer", description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder")
    parser.add_argument("--backbone", type=Path, required=True, help="backbone folder")
    parser.add_argument("--hyperparameters", default="{}", help="JSON object")
    parser.add_argument(
        "--hyperparameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one more of them, over the object's; needs no quoting, so a sweep can write it",
    )
    parser.add_argument("--training", default="{}", help="JSON object")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, else all cores")
    parser.add_argument("--model", type=Path, required=True, help="output: the model folder")
    parser.add_argument("--executor-output", type=Path, help="output: metrics")
    parser.add_argument(
        "--must-track",
        action="store_true",
        help="fail if the scores cannot be logged to the MLflow run of this process",
    )
    arguments = parser.parse_args(argv)
    if arguments.threads > 0:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # torch reads it when it is imported
    settings = parse_training(json_argument(arguments.training, "--training"))
    given = json_argument(arguments.hyperparameters, "--hyperparameters")
    if isinstance(given, dict):
        given |= read_assignments(arguments.hyperparameter)
    hyperparameters = parse_hyperparameters(given, settings)
    tracking = open_tracking(os.environ, required=arguments.must_track)

    # torch takes seconds to import; a mistyped setting should not wait for it.
    from components.trainer.data import load_data
    from components.trainer.output import write_model
    from components.trainer.training import train

    data = load_data(arguments.dataset)
    tracking.start(asdict(hyperparameters), settings)
    result = train(data, arguments.backbone, hyperparameters, settings, arguments.seed, tracking.epoch)
    write_model(arguments.model, result, data, arguments.backbone, hyperparameters, settings, arguments.seed)
    if settings.all_data:
        print(f"learned from all documents for {len(result.history)} epochs")
    else:
        print(f"best epoch {result.best_epoch}: validation macro-F1 {result.scores.macro_f1:.4f}")
    if arguments.executor_output:
        seconds = [epoch.seconds for epoch in result.history]
        part = score_name(settings)
        metrics = {
            f"{part}_macro_f1": result.scores.macro_f1,
            f"{part}_micro_f1": result.scores.micro_f1,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "loss": result.history[result.best_epoch - 1].loss,
            "seconds_per_epoch": sum(seconds) / len(seconds),
        }
        write_executor_output(arguments.executor_output, {"metrics": metrics})


if __name__ == "__main__":
    run_step(main)

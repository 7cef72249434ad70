"""Entry of the step's container: fine-tune one backbone with given hyperparameters."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from components.kfp_io import json_argument, run_step, write_executor_output
from components.trainer.settings import parse_hyperparameters, parse_training


def main(argv: Sequence[str]) -> None:
    """Parse `argv`, train, write the model folder and the metrics. Raises StepError."""
    parser = argparse.ArgumentParser(prog="components.trainer", description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder")
    parser.add_argument("--backbone", type=Path, required=True, help="backbone folder")
    parser.add_argument("--hyperparameters", default="{}", help="JSON object")
    parser.add_argument("--training", default="{}", help="JSON object")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, else all cores")
    parser.add_argument("--model", type=Path, required=True, help="output: the model folder")
    parser.add_argument("--executor-output", type=Path, help="output: metrics")
    arguments = parser.parse_args(argv)
    if arguments.threads > 0:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # torch reads it when it is imported
    settings = parse_training(json_argument(arguments.training, "--training"))
    hyperparameters = parse_hyperparameters(json_argument(arguments.hyperparameters, "--hyperparameters"), settings)

    # torch takes seconds to import; a mistyped setting should not wait for it.
    from components.trainer.data import load_data
    from components.trainer.output import write_model
    from components.trainer.training import train

    data = load_data(arguments.dataset)
    result = train(data, arguments.backbone, hyperparameters, settings, arguments.seed)
    write_model(arguments.model, result, data, arguments.backbone, hyperparameters, settings, arguments.seed)
    print(f"best epoch {result.best_epoch}: validation macro-F1 {result.scores.macro_f1:.4f}")
    if arguments.executor_output:
        seconds = [epoch.seconds for epoch in result.history]
        metrics = {
            "validation_macro_f1": result.scores.macro_f1,
            "validation_micro_f1": result.scores.micro_f1,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "loss": result.history[result.best_epoch - 1].loss,
            "seconds_per_epoch": sum(seconds) / len(seconds),
        }
        write_executor_output(arguments.executor_output, {"metrics": metrics})


if __name__ == "__main__":
    run_step(main)

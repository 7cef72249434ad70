"""Entry of the step's container: fine-tune one backbone with given hyperparameters."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.kfp_io import StepError, json_argument, mounted, run_step, write_executor_output
from components.tracking_file import TrackingFile, open_tracking_file
from components.trainer.backbone import read_backbone
from components.trainer.launch import Member, membership, run_processes
from components.trainer.settings import (
    Hyperparameters,
    TrainingSettings,
    parse_hyperparameters,
    parse_training,
    read_assignments,
)
from components.trainer.tracking import NoTracking, Tracking, open_tracking, score_name

if TYPE_CHECKING:
    from components.trainer.data import TrainingData
    from components.trainer.processes import Processes
    from components.trainer.training import Epoch, Result
    from components.trainer.warm_start import WarmStart


def main(argv: Sequence[str]) -> None:
    """Parse `argv`, train, write the model folder and the metrics. Raises StepError."""
    arguments = _parser().parse_args(argv)
    if arguments.threads > 0:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # torch reads it when it is imported
    settings = parse_training(json_argument(arguments.training, "--training"))
    given = json_argument(arguments.hyperparameters, "--hyperparameters")
    if isinstance(given, dict):
        given |= read_assignments(arguments.hyperparameter)
    hyperparameters = parse_hyperparameters(given, settings)
    member = membership()
    tracking = open_tracking(os.environ, required=arguments.must_track) if _speaks(member) else NoTracking()
    if member is None and (count := _count(arguments.processes)) > 1:
        raise SystemExit(run_processes(_command(argv, arguments.threads, count), count))

    # torch takes seconds to import; a mistyped setting should not wait for it.
    from components.trainer.processes import open_processes

    with open_processes(member) as processes:
        _run(arguments, hyperparameters, settings, tracking, processes)


def _run(
    arguments: argparse.Namespace,
    hyperparameters: Hyperparameters,
    settings: TrainingSettings,
    tracking: Tracking,
    processes: Processes,
) -> None:
    """Do this process's part of the training; what it gives is the first one's to tell."""
    from components.trainer.checkpoint import open_checkpoints, training_identity
    from components.trainer.data import load_data
    from components.trainer.training import Extras, train
    from components.trainer.warm_start import read_warm_start

    data, seed = load_data(arguments.dataset), arguments.seed
    start = read_warm_start(arguments.warm_start, arguments.backbone) if arguments.warm_start else None
    file = open_tracking_file() if processes.first else TrackingFile("")
    told = _told(file, hyperparameters, settings, processes)
    tracking.start(asdict(hyperparameters), settings)
    facts = {
        "dataset": data.content_sha256,
        "backbone": read_backbone(arguments.backbone).text,
        "hyperparameters": asdict(hyperparameters),
        "training": asdict(settings),
        "seed": seed,
        "warm_start": start and start.sha256,
        "processes": processes.count,
    }
    state = mounted(arguments.state) if arguments.state else None
    with open_checkpoints(
        state, lambda: training_identity(facts), arguments.checkpoint_seconds, _say, processes
    ) as checkpoints:
        extras = Extras(start, checkpoints, told, processes)
        result = train(data, arguments.backbone, hyperparameters, settings, seed, tracking.epoch, extras=extras)
        others = processes.total(peak_memory_mib()) - peak_memory_mib()
        if processes.first:
            _leave(arguments, data, result, settings, hyperparameters, start, processes.count)
            if checkpoints is not None:
                checkpoints.discard()
            _report(arguments, result, settings, others)


def _leave(
    arguments: argparse.Namespace,
    data: TrainingData,
    result: Result,
    settings: TrainingSettings,
    hyperparameters: Hyperparameters,
    start: WarmStart | None,
    count: int,
) -> None:
    """Write the model folder, and the pages that are asked for."""
    from components.trainer.output import write_model

    written = write_model(
        arguments.model, result, data, arguments.backbone, hyperparameters, settings, arguments.seed, start, count
    )
    _explain(arguments, data, result, written)


def _report(arguments: argparse.Namespace, result: Result, settings: TrainingSettings, others: float) -> None:
    """Say how good the model is and what it took, `others` MiB in other processes included; write the metrics."""
    if settings.all_data:
        print(f"learned from all documents for {len(result.history)} epochs")
    else:
        print(f"best epoch {result.best_epoch}: validation macro-F1 {result.scores.macro_f1:.4f}")
    speed = sum(epoch.tokens_per_second for epoch in result.history) / len(result.history)
    print(f"{speed:,.0f} tokens/s, at most {peak_memory_mib() + others:,.0f} MiB")
    if arguments.executor_output:
        write_executor_output(arguments.executor_output, {"metrics": _metrics(result, settings)})


def _speaks(member: Member | None) -> bool:
    return member is None or member.rank == 0


def _count(asked: int) -> int:
    """Return how many processes train: as many as `asked`, else one for each GPU that torch sees."""
    if asked < 0:
        raise StepError(f"--processes is {asked}, it must be at least 0")
    if asked:
        return asked
    import torch

    return max(1, torch.cuda.device_count())


def _command(argv: Sequence[str], threads: int, count: int) -> list[str]:
    """Return the command of one of `count` processes, which has its share of the threads. Raises StepError without accelerate."""
    if find_spec("accelerate") is None:
        raise StepError(f"{count} processes train together by accelerate, which is not installed", hint="--processes 1")
    given = os.environ.get("OMP_NUM_THREADS", "")
    whole = threads or (int(given) if given.isdigit() else 0) or os.cpu_count() or 1
    return [sys.executable, "-m", "components.trainer", *argv, "--threads", str(max(1, whole // count))]


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument(
        "--processes", type=int, default=0, help="that train together, each on a GPU if there is any; 0: one a GPU"
    )
    parser.add_argument(
        "--warm-start", type=Path, help="model folder of an earlier training, whose weights it begins with"
    )
    parser.add_argument("--state", default="", help="folder that outlives this process; checkpoints lie in it")
    parser.add_argument("--checkpoint-seconds", type=float, default=60, help="between two checkpoints at least")
    parser.add_argument("--model", type=Path, required=True, help="output: the model folder")
    parser.add_argument("--errors", type=Path, help="output: the error analysis, HTML")
    parser.add_argument("--card", type=Path, help="output: the model card, Markdown")
    parser.add_argument("--executor-output", type=Path, help="output: metrics")
    parser.add_argument(
        "--must-track",
        action="store_true",
        help="fail if the scores cannot be logged to the MLflow run of this process",
    )
    return parser


def _explain(arguments: argparse.Namespace, data: TrainingData, result: Result, written: Mapping[str, Any]) -> None:
    """Write the error analysis and the model card, those that are asked for, of what the model says of the validation documents."""
    if not arguments.errors and not arguments.card:
        return
    from components.trainer.analysis import analyse
    from components.trainer.card import model_card
    from components.trainer.model import load_tokenizer
    from components.trainer.report import error_page
    from components.trainer.training import model_tagger

    backbone = read_backbone(arguments.backbone)
    tagger = model_tagger(result.model, load_tokenizer(arguments.backbone), result.labels, result.window)
    predicted = [tagger.tag(document.text) for document in data.validation]
    analysis = analyse(data.validation, predicted, data.train, data.entity_types)
    learned = bool(written["training"]["all_data"])
    counts = {"train": len(data.train), "validation": len(data.validation)}
    texts = {
        arguments.errors: error_page(backbone.name, result.scores, analysis, learned=learned),
        arguments.card: model_card(written, json.loads(backbone.text), counts, analysis),
    }
    for path, text in texts.items():
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _told(
    file: TrackingFile, hyperparameters: Hyperparameters, settings: TrainingSettings, processes: Processes
) -> Callable[[Epoch], None]:
    """Tell the settings, and return what tells an epoch: its curves, how fast it was, and the memory that all took so far."""
    file.params({**asdict(settings), **asdict(hyperparameters)})
    part = score_name(settings)

    def tell(epoch: Epoch) -> None:
        scores = {
            "loss": epoch.loss,
            f"{part}_epoch_macro_f1": epoch.macro_f1,
            f"{part}_epoch_micro_f1": epoch.micro_f1,
        }
        memory = processes.total(peak_memory_mib())
        speed = {"tokens_per_second": epoch.tokens_per_second, "peak_memory_mib": memory}
        file.metrics({**scores, **speed}, step=epoch.number)

    return tell


def _metrics(result: Result, settings: TrainingSettings) -> Mapping[str, float]:
    """Return the scores. How fast it was is told to the tracking alone: these are the same for the same training."""
    part = score_name(settings)
    return {
        f"{part}_macro_f1": result.scores.macro_f1,
        f"{part}_micro_f1": result.scores.micro_f1,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "loss": result.history[result.best_epoch - 1].loss,
    }


def peak_memory_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    run_step(main)

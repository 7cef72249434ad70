"""Step baseline, in the trainer's image: `python -m components.benchmarker.baseline ...` measures the models in PyTorch, by the same
protocol as the benchmark measures the bundles."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from components.benchmarker.bundle import read_models
from components.benchmarker.measure import benchmark
from components.benchmarker.settings import parse_settings
from components.kfp_io import artifact_list, json_argument, run_step, write_executor_output, write_json


def main(argv: Sequence[str]) -> None:
    """Measure every model and write the baseline. Raises StepError."""
    parser = argparse.ArgumentParser(prog="baseline", description=__doc__)
    parser.add_argument("--executor-input", default="{}", help="KFP's ExecutorInput as JSON; names the models")
    parser.add_argument("--model", type=Path, action="append", default=[], help="one more model, by its folder")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--settings", default="{}", help="those of the benchmark")
    parser.add_argument("--baseline", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--executor-output", type=Path, required=True)
    args = parser.parse_args(argv)
    settings = parse_settings(json_argument(args.settings, "--settings"))
    listed = [artifact.path for artifact in artifact_list(args.executor_input, "models")]
    candidates = read_models([*listed, *args.model])
    print(f"measuring {', '.join(candidate.name for candidate in candidates)}", flush=True)
    document = benchmark(candidates, args.dataset, settings, min(settings.baseline_requests, settings.requests))
    write_json(args.baseline, document)
    metrics = {
        f"{entry['backbone']}_mean_ms".replace("/", "_"): entry["latency_ms"]["mean"]
        for entry in document["candidates"]
    }
    write_executor_output(args.executor_output, {"metrics": metrics})


if __name__ == "__main__":
    run_step(main)

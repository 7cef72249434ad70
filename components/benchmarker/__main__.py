"""Step benchmarker: `python -m components.benchmarker ...`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.benchmarker.bundle import SCHEMA_VERSION, read_candidates
from components.benchmarker.measure import machine, measure
from components.benchmarker.settings import parse_settings
from components.kfp_io import artifact_list, json_argument, run_step, write_executor_output, write_json


def main(argv: Sequence[str]) -> None:
    """Measure every variant of every bundle and write the benchmark. Raises StepError."""
    parser = argparse.ArgumentParser(prog="benchmarker", description=__doc__)
    parser.add_argument("--executor-input", default="{}", help="KFP's ExecutorInput as JSON; names the bundles")
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="one more bundle, by its folder")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--settings", default="{}", help="JSON object: rounds, requests, warmup, seed")
    parser.add_argument("--benchmark", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--executor-output", type=Path, required=True)
    args = parser.parse_args(argv)
    settings = parse_settings(json_argument(args.settings, "--settings"))
    listed = [artifact.path for artifact in artifact_list(args.executor_input, "bundles")]
    candidates = read_candidates([*listed, *args.bundle])
    print(f"measuring {', '.join(candidate.name for candidate in candidates)}", flush=True)
    conditions = machine()
    entries = measure(candidates, args.dataset, settings)
    write_json(
        args.benchmark,
        {"schema_version": SCHEMA_VERSION, "machine": conditions, "settings": asdict(settings), "candidates": entries},
    )
    metrics = {}
    for entry in entries:
        name = f"{entry['backbone']}_{entry['variant']}".replace("/", "_")
        metrics[f"{name}_validation_macro_f1"] = entry["scores"]["validation"]["macro_f1"]
        metrics[f"{name}_mean_ms"] = entry["latency_ms"]["mean"]
    write_executor_output(args.executor_output, {"metrics": metrics})


if __name__ == "__main__":
    run_step(main)

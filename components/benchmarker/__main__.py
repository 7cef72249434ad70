"""Step benchmarker: `python -m components.benchmarker ...`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from components.benchmarker.bundle import read_candidates
from components.benchmarker.join import join, read_baseline
from components.benchmarker.measure import benchmark
from components.benchmarker.report import markdown
from components.benchmarker.settings import parse_settings
from components.kfp_io import artifact_list, json_argument, run_step, write_executor_output, write_json


def main(argv: Sequence[str]) -> None:
    """Measure every variant of every bundle and write the benchmark. Raises StepError."""
    parser = argparse.ArgumentParser(prog="benchmarker", description=__doc__)
    parser.add_argument("--executor-input", default="{}", help="KFP's ExecutorInput as JSON; names the bundles")
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="one more bundle, by its folder")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--settings", default="{}", help="JSON object: rounds, requests, warmup, seed, ...")
    parser.add_argument("--baseline", type=Path, help="what components.benchmarker.baseline wrote")
    parser.add_argument("--benchmark", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--executor-output", type=Path, required=True)
    args = parser.parse_args(argv)
    settings = parse_settings(json_argument(args.settings, "--settings"))
    listed = [artifact.path for artifact in artifact_list(args.executor_input, "bundles")]
    candidates = read_candidates([*listed, *args.bundle])
    baseline = read_baseline(args.baseline, settings) if args.baseline else None
    print(f"measuring {', '.join(candidate.name for candidate in candidates)}", flush=True)
    document = join(benchmark(candidates, args.dataset, settings, settings.requests), baseline)
    write_json(args.benchmark, document)
    text = markdown(document)
    print(text, flush=True)
    if args.report:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(text, encoding="utf-8")
    metrics = {"conclusive": float(document["noise"]["verdict"] == "steady")}
    for entry in document["candidates"]:
        name = f"{entry['backbone']}_{entry['variant']}".replace("/", "_")
        metrics[f"{name}_validation_macro_f1"] = entry["scores"]["validation"]["macro_f1"]
        metrics[f"{name}_mean_ms"] = entry["latency_ms"]["mean"]
    write_executor_output(args.executor_output, {"metrics": metrics})


if __name__ == "__main__":
    run_step(main)

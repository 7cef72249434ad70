"""Step converter: `python -m components.converter ...`."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.converter.builds import Build, parse_conversion
from components.converter.choose import Row, Sample, fastest, time_builds
from components.converter.gate import Gate, misses
from components.converter.session import Session
from components.converter.table import metrics, report
from components.converter.tolerances import Tolerances, parse_tolerances
from components.kfp_io import StepError, json_argument, run_step, write_executor_output
from components.ner.formats import load_split
from components.ner.predict import Infer, Tagger

if TYPE_CHECKING:
    from components.converter.export import Trained
    from components.converter.produce import Workshop


def main(argv: Sequence[str]) -> None:
    """Make every build, gate it, and write the bundle of the fastest. Raises StepError if no FP32 build agrees with PyTorch."""
    parser = argparse.ArgumentParser(prog="converter", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder of the trainer")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--gate", default="{}", help="JSON object of tolerances")
    parser.add_argument("--conversion", default="{}", help="JSON object: builds")
    parser.add_argument("--bundle", type=Path, required=True, help="output folder")
    parser.add_argument("--report", type=Path, required=True, help="output: Markdown")
    parser.add_argument("--executor-output", type=Path, required=True)
    args = parser.parse_args(argv)
    allowed = parse_tolerances(json_argument(args.gate, "--gate"))
    builds = parse_conversion(json_argument(args.conversion, "--conversion"))

    from components.converter.bundle import file_name, write_bundle
    from components.converter.export import load, torch_infer
    from components.converter.produce import Workshop

    trained = load(args.model)
    gate = _gate(trained, args.dataset, torch_infer(trained))
    folder = args.bundle / "builds"  # not in /tmp, which is memory
    folder.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(trained, folder)
    rows = [_row(build, workshop, gate, allowed) for build in builds]
    if not any(row.build.variant == "fp32" and not row.left_out for row in rows):
        reasons = [row.left_out for row in rows if row.build.variant == "fp32"]
        raise StepError(
            f"the FP32 export does not agree with PyTorch: {reasons[0]}", hint="the gate's tolerances are a parameter"
        )
    times, winners = _choose(rows, workshop, gate.sample)
    for variant, build in winners.items():
        workshop.make(build).replace(args.bundle / file_name(variant))
    shutil.rmtree(folder)
    manifest = write_bundle(args.bundle, trained, rows, winners, allowed)
    args.report.parent.mkdir(parents=True, exist_ok=True)
    text = report(manifest["backbone"], gate.reference.scores.macro_f1, rows, times, winners)
    args.report.write_text(text, encoding="utf-8")
    write_executor_output(args.executor_output, {"metrics": metrics(rows, winners)})
    print(text, flush=True)


def _row(build: Build, workshop: Workshop, gate: Gate, allowed: Tolerances) -> Row:
    """Make one build and let it through the gate, run by a process of its own."""
    size = 0
    try:
        file = workshop.make(build)
        size = file.stat().st_size
        with Session(file) as session:
            measured = gate.measure(session.infer)
    except StepError as error:
        row = Row(build, size, None, error.message)
    else:
        row = Row(build, size, measured, misses(build.variant, measured, allowed))
    print(f"{build.name}: " + (f"left out: {row.left_out}" if row.left_out else "passed"), flush=True)
    return row


def _choose(
    rows: Sequence[Row], workshop: Workshop, sample: Sample
) -> tuple[dict[Build, list[float]], Mapping[str, Build]]:
    """Return the times of all builds that passed, and the fastest of each variant. A lone one needs no race, and has no time."""
    times: dict[Build, list[float]] = {}
    winners: dict[str, Build] = {}
    for variant in ("fp32", "int8"):
        passed = [row.build for row in rows if row.build.variant == variant and not row.left_out]
        if len(passed) > 1:
            raced = time_builds({build: workshop.make(build) for build in passed}, sample)
            winners[variant] = fastest(raced)
            times |= raced
        elif passed:
            winners[variant] = passed[0]
    return times, winners


def _gate(trained: Trained, dataset: Path, infer: Infer) -> Gate:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(trained.folder / "tokenizer.json"))

    def make(function: Infer) -> Tagger:
        # One window at a time, as the example and the benchmark run it: INT8 scales activations over the whole batch.
        return Tagger(tokenizer, trained.labels, trained.window, function, batch=1, transitions=trained.transitions)

    documents = load_split(dataset, "validation")
    return Gate(make, documents, trained.facts["entity_types"], infer, trained.vocabulary, trained.window.max_tokens)


if __name__ == "__main__":
    run_step(main)

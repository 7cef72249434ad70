"""Step converter: `python -m components.converter ...`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.converter.gate import Gate, Measured, misses
from components.converter.tolerances import parse_tolerances
from components.kfp_io import StepError, json_argument, run_step, write_executor_output
from components.ner.formats import load_split
from components.ner.predict import Infer, Tagger

if TYPE_CHECKING:
    from components.converter.export import Trained


def main(argv: Sequence[str]) -> None:
    """Export, gate, and write the bundle. Raises StepError if FP32 does not agree with PyTorch."""
    parser = argparse.ArgumentParser(prog="converter", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder of the trainer")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--gate", default="{}", help="JSON object of tolerances")
    parser.add_argument("--bundle", type=Path, required=True, help="output folder")
    parser.add_argument("--report", type=Path, required=True, help="output: Markdown")
    parser.add_argument("--executor-output", type=Path, required=True)
    args = parser.parse_args(argv)
    allowed = parse_tolerances(json_argument(args.gate, "--gate"))

    from components.converter.bundle import file_name, write_bundle
    from components.converter.export import export_fp32, load, onnx_infer, quantise_int8, torch_infer

    trained = load(args.model)
    gate = _gate(trained, args.dataset, torch_infer(trained))
    args.bundle.mkdir(parents=True, exist_ok=True)
    files = {name: args.bundle / file_name(name) for name in ("fp32", "int8")}
    export_fp32(trained, files["fp32"])
    measured = {"fp32": gate.measure(onnx_infer(files["fp32"]))}
    reason = misses("fp32", measured["fp32"], allowed)
    if reason:
        raise StepError(
            f"the FP32 export does not agree with PyTorch: {reason}", hint="the gate's tolerances are a parameter"
        )
    quantise_int8(files["fp32"], files["int8"])
    measured["int8"] = gate.measure(onnx_infer(files["int8"]))
    rejected = {}
    if reason := misses("int8", measured["int8"], allowed):
        rejected["int8"] = reason
        files["int8"].unlink()
        print(f"int8 is left out: {reason}")
    manifest = write_bundle(args.bundle, trained, measured, rejected, allowed)
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(_report(manifest, measured, rejected, gate.reference.scores.macro_f1), encoding="utf-8")
    write_executor_output(args.executor_output, {"metrics": _metrics(manifest, measured)})
    print(f"bundle of {manifest['backbone']}: {', '.join(manifest['variants'])}")


def _gate(trained: Trained, dataset: Path, infer: Infer) -> Gate:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(trained.folder / "tokenizer.json"))

    def make(function: Infer) -> Tagger:
        # One window at a time, as the example and the benchmark run it: INT8 scales activations over the whole batch.
        return Tagger(tokenizer, trained.labels, trained.window, function, batch=1)

    documents = load_split(dataset, "validation")
    return Gate(make, documents, trained.facts["entity_types"], infer, trained.vocabulary, trained.window.max_tokens)


def _report(
    manifest: Mapping[str, Any], measured: Mapping[str, Measured], rejected: Mapping[str, str], pytorch: float
) -> str:
    lines = [f"# Conversion of {manifest['backbone']}", "", f"PyTorch: validation macro-F1 {pytorch:.4f}.", ""]
    lines += ["| variant | MB | logits differ by | labels kept | macro-F1 | change | verdict |", "|" + " --- |" * 7]
    for name, values in measured.items():
        size = f"{manifest['variants'][name]['bytes'] / 1e6:.1f}" if name in manifest["variants"] else ""
        verdict = f"left out: {rejected[name]}" if name in rejected else "passed"
        lines.append(
            f"| {name} | {size} | {values.logits:.2g} | {values.agreement:.2%} | {values.macro_f1:.4f} | {values.change:+.4f} | {verdict} |"
        )
    return "\n".join([*lines, ""])


def _metrics(manifest: Mapping[str, Any], measured: Mapping[str, Measured]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, values in measured.items():
        found |= {f"{name}_{key}": value for key, value in values.as_json().items()}
        if name in manifest["variants"]:
            found[f"{name}_bytes"] = manifest["variants"][name]["bytes"]
    return found


if __name__ == "__main__":
    run_step(main)

"""What conversion buys: the NER factory's candidates beside PyTorch eager, measured in one run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.command import intermodal
from benchmarks.figures import Figure
from components.benchmarker.report import markdown

_EXPERIMENT = {
    "search": {"trials": 1, "epochs": 1},  # what is searched for changes no speed
    "benchmark": {"requests": 200, "baseline_requests": 100, "thread_sweep": 1},
}
_FASTER, _WITHIN = 3.0, 0.005


def int8(folder: Path) -> list[Figure]:
    """Run the factory with the default backbones; compare each INT8 file with PyTorch in the trainer's image: p50, test macro-F1."""
    settings = folder / "onnx.yaml"
    settings.write_text(json.dumps(_EXPERIMENT), encoding="utf-8")  # JSON is YAML
    _, result = intermodal(Path("pipelines/ner.py"), "--config", settings, state=folder / "onnx")
    document = json.loads(Path(result["artifacts"]["benchmark"]).read_text(encoding="utf-8"))
    print(markdown(document), file=sys.stderr)
    entries = {
        f"{entry['backbone']} {entry['variant']}": entry for entry in (*document["candidates"], *document["baseline"])
    }
    return [
        figure
        for found in document["comparisons"]
        if found["name"].endswith(" int8") and found["than"].endswith(" pytorch")
        for figure in _figures(found, entries[found["name"]], entries[found["than"]])
    ]


def _figures(found: Mapping[str, Any], ours: Mapping[str, Any], peer: Mapping[str, Any]) -> list[Figure]:
    told = found["verdict"] == "faster"
    change = found["change_of_macro_f1"]
    return [
        Figure(
            f"{found['name']}, a document at p50"
            + ("" if told else f" ({found['verdict']}: {found.get('why', 'noise')})"),
            f"{ours['latency_ms']['p50']:.1f} ms",
            f"PyTorch eager: {peer['latency_ms']['p50']:.1f} ms",
            f"{found['speedup']:.2f} × faster ({found['low']:.2f} to {found['high']:.2f})",
            f"≥ {_FASTER:g} × faster",
            told and found["speedup"] >= _FASTER,
        ),
        Figure(
            f"{found['name']}, test macro-F1",
            f"{ours['scores']['test']['macro_f1']:.4f}",
            f"PyTorch: {peer['scores']['test']['macro_f1']:.4f}",
            f"{change:+.4f}",
            f"within {_WITHIN:g}",
            abs(change) <= _WITHIN,
        ),
    ]

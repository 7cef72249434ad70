"""What conversion buys: INT8 files beside PyTorch eager, by turns on one machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.command import compile_pipeline, intermodal
from benchmarks.figures import Figure, by_turns

_PAIRS = 10
_FASTER, _WITHIN = 3.0, 0.005


def int8(folder: Path) -> list[Figure]:
    """Train and convert the default backbones once; then time the INT8 files and PyTorch, each in its image, by turns: p50, test macro-F1.

    A ratio is of two neighbouring steps on the same documents, the medians of their requests.
    """
    from benchmarks.onnx_pipeline import turns

    _, result = intermodal(compile_pipeline(turns(_PAIRS), folder), state=folder / "onnx")
    rounds = [
        (_entries(result["artifacts"][f"int8_{number}"]), _entries(result["artifacts"][f"pytorch_{number}"]))
        for number in range(_PAIRS)
    ]
    return [
        figure
        for backbone in rounds[0][0]
        for figure in _figures(backbone, [(ours[backbone], peers[backbone]) for ours, peers in rounds])
    ]


def _entries(path: str) -> dict[str, Mapping[str, Any]]:
    """Return what a step measured, by backbone."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    return {entry["backbone"]: entry for entry in document["candidates"]}


def _figures(backbone: str, pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Figure]:
    name = f"{backbone} int8"
    ours, theirs = ([entry["latency_ms"]["p50"] for entry in side] for side in zip(*pairs, strict=True))
    for mine, other in zip(ours, theirs, strict=True):
        print(f"{name} {mine:.1f} ms, PyTorch {other:.1f} ms: {other / mine:.2f}", file=sys.stderr)
    scores, peer = (entry["scores"]["test"]["macro_f1"] for entry in pairs[0])
    return [
        by_turns(f"{name}, a document at p50", ours, "PyTorch eager", theirs, _FASTER),
        Figure(
            f"{name}, test macro-F1",
            f"{scores:.4f}",
            f"PyTorch: {peer:.4f}",
            f"{scores - peer:+.4f}",
            f"within {_WITHIN:g}",
            abs(scores - peer) <= _WITHIN,
        ),
    ]

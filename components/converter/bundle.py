"""The bundle: everything that is needed to use the model, and nothing of PyTorch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.converter.builds import Build
from components.converter.choose import Row
from components.converter.export import Trained
from components.converter.tolerances import Tolerances
from components.kfp_io import write_json

SCHEMA_VERSION = 1

_README = """# {backbone}: named-entity recognition in ONNX

Needs onnxruntime, tokenizers and numpy:

    python example.py "Some text with entities in it."

`manifest.json` names the variants that are here, the labels, the window settings and the sha256 of every file.
Where it has transitions, they are the scores of one label (row) before another (column): decode by Viterbi with them.
Inputs `input_ids` and `attention_mask` (int64, [batch, tokens]), output `logits` (float32, [batch, tokens, labels]).
"""


def write_bundle(
    folder: Path, trained: Trained, rows: Sequence[Row], winners: Mapping[str, Build], allowed: Tolerances
) -> dict[str, Any]:
    """Complete `folder`, which holds the winners' ONNX files already; the manifest comes last. Returns the manifest.

    It has the whole table but its times, so that converting again the same way gives the same bytes.
    """
    shutil.copyfile(trained.folder / "tokenizer.json", folder / "tokenizer.json")
    shutil.copyfile(Path(__file__).with_name("example.py"), folder / "example.py")
    write_json(folder / "labels.json", trained.labels)
    backbone = trained.facts["backbone"]["name"]
    # It names no variant: the selector hands on the bundle with one of them, and this file must still be true then.
    (folder / "README.md").write_text(_README.format(backbone=backbone), encoding="utf-8")
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "backbone": backbone,
        "revision": trained.facts["backbone"]["revision"],
        "labels": trained.labels,
        "entity_types": trained.facts["entity_types"],
        "window": asdict(trained.window),
        "transitions": trained.transitions,
        "variants": {name: _variant(folder, files, name, build) for name, build in sorted(winners.items())},
        "rejected": {
            row.build.variant: row.left_out
            for row in reversed(rows)
            if row.left_out and row.build.variant not in winners
        },
        "builds": [row.as_json() for row in rows],
        "gate": {
            "allowed": asdict(allowed),
            "measured": {
                row.build.variant: row.measured.as_json()
                for row in rows
                if row.measured and row.build in winners.values()
            },
        },
        "hyperparameters": trained.facts["hyperparameters"],
        "training": trained.facts["training"],
        "best_epoch": trained.facts["best_epoch"],
        "validation": trained.facts["scores"]["validation"],
        "dataset_sha256": trained.facts["dataset_sha256"],
        "files": files,
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def _variant(folder: Path, files: Mapping[str, str], name: str, build: Build) -> dict[str, Any]:
    file = file_name(name)
    facts = {
        "exporter": build.exporter,
        "opset": build.opset,
        "fusion": build.fusion,
        "quantisation": build.quantisation,
    }
    return {"file": file, "sha256": files[file], "bytes": (folder / file).stat().st_size, "build": facts}


def file_name(variant: str) -> str:
    return f"model.{variant}.onnx"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

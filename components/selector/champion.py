"""The champion's bundle: what the converter made, with the chosen variant alone; and how to make it again from all documents."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.kfp_io import StepError, write_json
from components.selector.candidates import Candidate


@dataclass(frozen=True)
class Recipe:
    """How to make the champion again from all documents, as the steps take it: backbone, trainer, converter, keep."""

    backbone: str
    variant: str
    hyperparameters: Mapping[str, Any]
    training: Mapping[str, Any]
    conversion: Mapping[str, Any]


def write_champion(bundle: Path, champion: Candidate, target: Path) -> Recipe:
    """Keep the champion's variant of `bundle` in `target`. Raises StepError, also if it is not the one that was measured."""
    manifest = _read(bundle)
    chosen = _variant(bundle, manifest, champion.variant)
    if manifest["files"].get(chosen["file"]) != champion.sha256:
        raise StepError(f"{champion.name}: the file in {bundle} is not the one that was measured")
    keep_variant(bundle, champion.variant, target)
    built = [_name(chosen["build"])]
    if champion.variant != "fp32":  # a conversion measures INT8 beside FP32
        built.insert(0, _name({**chosen["build"], "quantisation": "fp32"}))
    # The epochs are those that validation chose: where every document is learned from, no score can.
    training = {**manifest["training"], "epochs": manifest["best_epoch"], "patience": 0, "all_data": True}
    return Recipe(champion.backbone, champion.variant, manifest["hyperparameters"], training, {"builds": built})


def keep_variant(bundle: Path, variant: str, target: Path) -> None:
    """Copy `bundle` to `target` without the other variants; the manifest, written last, names the champion. Raises StepError."""
    manifest = _read(bundle)
    chosen = _variant(bundle, manifest, variant)
    others = {each["file"] for name, each in manifest["variants"].items() if name != variant}
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, digest in sorted(manifest["files"].items()):
        if name in others:
            continue
        source = bundle / name
        if Path(name).name != name or not source.is_file():
            raise StepError(f"{bundle}: its manifest names {name!r}, which is not a file in it")
        shutil.copyfile(source, target / name)
        with (target / name).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise StepError(f"{source}: its content is not what the manifest says")
        files[name] = digest
    manifest.update(champion=variant, variants={variant: chosen}, files=files)
    write_json(target / "manifest.json", manifest)


def _read(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def _variant(bundle: Path, manifest: Mapping[str, Any], variant: str) -> Mapping[str, Any]:
    if variant not in manifest["variants"]:
        why = manifest.get("rejected", {}).get(variant)
        raise StepError(
            f"{bundle}: the bundle of {manifest['backbone']} has no variant {variant}, only {', '.join(manifest['variants'])}"
            + (f": {why}" if why else "")
        )
    chosen: Mapping[str, Any] = manifest["variants"][variant]
    return chosen


def _name(build: Mapping[str, Any]) -> str:
    """Return a build's name as a conversion takes it."""
    return "-".join(str(build[part]) for part in ("exporter", "opset", "fusion", "quantisation"))

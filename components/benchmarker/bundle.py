"""What is measured: every variant of every bundle, named by the bundles' own manifests, or the trainer's models; checked before
anything is timed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.kfp_io import StepError, open_plain

SCHEMA_VERSION = 1
_MANIFEST_BYTES = 1 << 22
PYTORCH = "pytorch"
"""The variant that is no file of a bundle: the model as it was trained."""


@dataclass(frozen=True)
class Candidate:
    """One variant of one bundle, or one model of the trainer: all that a worker needs to load it."""

    backbone: str
    variant: str
    runtime: Literal["onnx", "pytorch"]
    model: Path
    """The ONNX file, or the trainer's model folder."""
    weights: Path
    """The file that holds the weights."""
    sha256: str
    labels: Sequence[str]
    entity_types: Sequence[str]
    window: Mapping[str, Any]
    transitions: Sequence[Sequence[float]] | None
    """Of a conditional random field over the labels."""
    hyperparameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.backbone} {self.variant}"

    @property
    def bytes(self) -> int:
        return self.weights.stat().st_size

    def as_json(self) -> dict[str, Any]:
        """Return what the worker reads."""
        folder = self.weights.parent
        return {
            "runtime": self.runtime, "model": str(self.model), "tokenizer": str(folder / "tokenizer.json"),
            "labels": list(self.labels), "entity_types": list(self.entity_types), "window": dict(self.window),
            "transitions": self.transitions,
        }  # fmt: skip


def read_candidates(folders: Sequence[Path]) -> list[Candidate]:
    """Return the candidates of all bundles. Raises StepError: no bundle, a damaged one, two of one backbone."""
    if not folders:
        raise StepError("there is no bundle to measure")
    found: list[Candidate] = []
    owners: dict[str, Path] = {}
    for folder in folders:
        manifest = _manifest(folder)
        backbone = manifest["backbone"]
        if backbone in owners:
            raise StepError(f"two bundles say that they are {backbone!r}: {owners[backbone]} and {folder}")
        owners[backbone] = folder
        for name, digest in manifest["files"].items():
            _check(folder, name, digest)
        for variant, facts in sorted(manifest["variants"].items()):
            if manifest["files"].get(facts.get("file")) != facts.get("sha256"):
                raise StepError(
                    f"{folder}: variant {variant!r}: the hash of {facts.get('file')!r} is not the one among the files"
                )
            found.append(
                Candidate(
                    backbone=backbone,
                    variant=variant,
                    runtime="onnx",
                    model=folder / facts["file"],
                    weights=folder / facts["file"],
                    sha256=facts["sha256"],
                    labels=manifest["labels"],
                    entity_types=manifest["entity_types"],
                    window=manifest["window"],
                    transitions=_transitions(folder / "manifest.json", manifest),
                    hyperparameters=manifest["hyperparameters"],
                )
            )
    return found


def read_models(folders: Sequence[Path]) -> list[Candidate]:
    """Return the trainer's models, to be measured in PyTorch. Raises StepError: no model, a broken one, two of one backbone."""
    if not folders:
        raise StepError("there is no model to measure")
    found: dict[str, Candidate] = {}
    for folder in folders:
        try:
            facts = json.loads(_read(folder / "ner.json"))
            candidate = Candidate(
                backbone=facts["backbone"]["name"],
                variant=PYTORCH,
                runtime="pytorch",
                model=folder,
                weights=folder / "model.safetensors",
                sha256=_sha256(folder / "model.safetensors"),
                labels=facts["labels"],
                entity_types=facts["entity_types"],
                window=facts["window"],
                transitions=_transitions(folder / "ner.json", facts),
                hyperparameters=facts["hyperparameters"],
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StepError(f"{folder}: is not a model folder of the trainer: {error!r}") from error
        if candidate.backbone in found:
            raise StepError(
                f"two models say that they are {candidate.backbone!r}: {found[candidate.backbone].model} and {folder}"
            )
        found[candidate.backbone] = candidate
    return list(found.values())


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest: Mapping[str, Any] = json.loads(_read(path))
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise StepError(f"{path}: schema version {manifest['schema_version']!r}, this step reads {SCHEMA_VERSION}")
        for key in ("backbone", "labels", "entity_types", "window", "variants", "files", "hyperparameters"):
            if key not in manifest:
                raise StepError(f"{path}: has no {key!r}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StepError(f"{path}: is not the manifest of a bundle: {error!r}") from error
    return manifest


def _transitions(path: Path, facts: Mapping[str, Any]) -> list[list[float]] | None:
    """Return the scores of one label after another. Raises StepError unless there is a number for each pair of labels."""
    rows, count = facts.get("transitions"), len(facts["labels"])
    if rows is None:
        return None
    whole = isinstance(rows, list) and [len(row) if isinstance(row, list) else -1 for row in rows] == [count] * count
    if not whole or not all(isinstance(score, int | float) and math.isfinite(score) for row in rows for score in row):
        raise StepError(f"{path}: its transitions are not a finite number for each pair of its {count} labels")
    return [[float(score) for score in row] for row in rows]


def _check(folder: Path, name: str, digest: str) -> None:
    """Raise StepError unless the file in the bundle has the content that the manifest says."""
    if Path(name).name != name:
        raise StepError(f"{folder}: its manifest names {name!r}, which is not a file in it")
    if _sha256(folder / name) != digest:
        raise StepError(
            f"{folder / name}: its content is not what the manifest says", hint="the bundle was changed or damaged"
        )


def _read(path: Path) -> bytes:
    with open_plain(path) as stream:
        data = stream.read(_MANIFEST_BYTES + 1)
    if len(data) > _MANIFEST_BYTES:
        raise StepError(f"{path}: has more than {_MANIFEST_BYTES} bytes")
    return data


def _sha256(path: Path) -> str:
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

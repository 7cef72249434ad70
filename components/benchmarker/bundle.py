"""The candidates: every variant of every bundle, named by the bundles' own manifests, checked before anything is timed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.kfp_io import StepError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Candidate:
    """One variant of one bundle."""

    backbone: str
    variant: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.backbone} {self.variant}"

    @property
    def file(self) -> Path:
        return self.folder / str(self.manifest["variants"][self.variant]["file"])

    @property
    def bytes(self) -> int:
        return self.file.stat().st_size


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
            found.append(Candidate(backbone, variant, folder, manifest))
    return found


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise StepError(f"{path}: schema version {manifest['schema_version']!r}, this step reads {SCHEMA_VERSION}")
        for key in ("backbone", "labels", "entity_types", "window", "variants", "files", "hyperparameters"):
            if key not in manifest:
                raise StepError(f"{path}: has no {key!r}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StepError(f"{path}: is not the manifest of a bundle: {error!r}") from error
    return manifest


def _check(folder: Path, name: str, digest: str) -> None:
    """Raise StepError unless the file in the bundle has the content that the manifest says."""
    if Path(name).name != name:
        raise StepError(f"{folder}: its manifest names {name!r}, which is not a file in it")
    try:
        with (folder / name).open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StepError(f"{folder / name}: cannot be read: {error.strerror}") from error
    if actual != digest:
        raise StepError(
            f"{folder / name}: its content is not what the manifest says", hint="the bundle was changed or damaged"
        )

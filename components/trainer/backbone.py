"""What the trainer reads of a backbone folder, beside what transformers does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from components.kfp_io import StepError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BackboneManifest:
    """backbone.json. `seed` draws the weights of a random backbone and is None for a pretrained one."""

    name: str
    revision: str
    seed: int | None
    text: str


def read_backbone(folder: Path) -> BackboneManifest:
    """Return the manifest of the backbone in `folder`. Raises StepError if it is missing or of another schema."""
    path = folder / "backbone.json"
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        version = document["schema_version"]
        seed = int(document["seed"]) if document["source"] == "random" else None
        manifest = BackboneManifest(str(document["name"]), str(document["revision"]), seed, text)
    except FileNotFoundError as error:
        raise StepError(f"{folder} is no backbone folder: it has no backbone.json") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepError(f"backbone manifest {path} cannot be read: {error!r}") from error
    if version != SCHEMA_VERSION:
        raise StepError(f"backbone manifest {path} has schema_version {version!r}, this step reads {SCHEMA_VERSION}")
    return manifest


def has_safetensors(folder: Path) -> bool:
    """Return whether `folder` holds safetensors weights, whole or in shards."""
    return (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file()

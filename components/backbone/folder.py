"""The backbone folder: checks on one from elsewhere, and its manifest `backbone.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.kfp_io import StepError, write_json

SCHEMA_VERSION = 1
MANIFEST = "backbone.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
SENTENCEPIECE = "spm.model"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`. Raises StepError naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StepError(f"backbone file {path.name} is missing in {path.parent}") from error
    except (OSError, ValueError) as error:
        raise StepError(f"backbone file {path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise StepError(f"backbone file {path} must hold a JSON object, got {type(value).__name__}")
    return value


def weight_files(folder: Path) -> list[str]:
    """Return the names of the safetensors files of `folder` (and the index, if they are shards), or an empty list."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (folder / WEIGHTS_INDEX).is_file():
        return []
    index = read_json_object(folder / WEIGHTS_INDEX)
    shards = sorted({str(name) for name in dict(index.get("weight_map", {})).values()})
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise StepError(
                f"{folder / WEIGHTS_INDEX} names the shard {shard!r}, which is no safetensors file beside it"
            )
        if not (folder / shard).is_file():
            raise StepError(f"{folder / WEIGHTS_INDEX} names the shard {shard!r}, which is not there")
    return [WEIGHTS_INDEX, *shards]


def check_source(folder: Path, source: str = "") -> list[str]:
    """Return the files to take from `folder` as they are: configuration and weights (`read_tokenizer` gives the third part).

    `source` names the backbone in errors; without it the folder does.

    Raises StepError if one is missing, if the weights come as a pickle only, or if the model needs code of its own:
    neither is ever loaded.
    """
    source = source or str(folder)
    if not folder.is_dir():
        raise StepError(f"backbone folder {folder} does not exist or is no folder")
    config = read_json_object(folder / CONFIG)
    if "auto_map" in config:
        raise StepError(
            f"backbone {source} needs custom code ({CONFIG} has auto_map), which is never run",
            hint="choose a backbone whose architecture is part of transformers",
        )
    if not isinstance(config.get("model_type"), str):
        raise StepError(
            f"backbone {source}: {CONFIG} has no model_type: it is not the configuration of a transformers model"
        )
    weights = weight_files(folder)
    if not weights:
        refuse_without_safetensors(source, [path.name for path in folder.iterdir()])
    if not (folder / TOKENIZER).is_file() and not _has_sentencepiece(folder, config):
        refuse_without_tokenizer(source)
    return [CONFIG, *weights]


def _has_sentencepiece(folder: Path, config: Mapping[str, Any]) -> bool:
    return config["model_type"] == "deberta-v2" and (folder / SENTENCEPIECE).is_file()


def read_tokenizer(folder: Path) -> str:
    """Return tokenizer.json of a checked folder without truncation and padding; DeBERTa's is made of its spm.model."""
    if (folder / TOKENIZER).is_file():
        return clean_tokenizer((folder / TOKENIZER).read_text(encoding="utf-8"), str(folder / TOKENIZER))
    from components.backbone.sentencepiece import read_model, tokenizer_of

    settings = read_json_object(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    if settings.get("split_by_punct"):
        raise StepError(
            f"backbone {folder}: {TOKENIZER_CONFIG} has split_by_punct, which is not made of {SENTENCEPIECE}"
        )
    model = read_model((folder / SENTENCEPIECE).read_bytes(), str(folder / SENTENCEPIECE))
    return tokenizer_of(model, lower_case=bool(settings.get("do_lower_case"))) + "\n"


def refuse_without_safetensors(source: str, names: list[str]) -> None:
    """Raise the StepError for a backbone without safetensors; it says so when there are pickles instead."""
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    if pickles:
        raise StepError(
            f"backbone {source} has pickle weights only ({', '.join(pickles)}), which are never loaded",
            hint="take a revision that has model.safetensors (name@revision; the Hub's converter often opened a pull request with "
            "them, refs/pr/<n>), or convert them yourself and give the folder",
        )
    raise StepError(f"backbone {source} has no weights: {WEIGHTS} is missing")


def refuse_without_tokenizer(source: str) -> None:
    """Raise the StepError for a backbone without a fast tokenizer."""
    raise StepError(
        f"backbone {source} has no {TOKENIZER}",
        hint="save it once with AutoTokenizer.from_pretrained(...).save_pretrained(...) and give your own folder",
    )


def clean_tokenizer(text: str, source: str) -> str:
    """Return tokenizer.json without truncation and padding: with them a long document would silently lose its end."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StepError(f"tokenizer {source} is not JSON: {error}") from error
    document["truncation"] = None
    document["padding"] = None
    return json.dumps(document, ensure_ascii=False) + "\n"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write backbone.json with `facts` (name, revision, source, license) and the SHA-256 of every other file."""
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    write_json(folder / MANIFEST, {"schema_version": SCHEMA_VERSION, **facts, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return backbone.json of `folder`. Raises StepError if it is missing or of a later schema."""
    manifest = read_json_object(folder / MANIFEST)
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise StepError(
            f"{folder / MANIFEST} has schema_version {manifest.get('schema_version')!r}, known is {SCHEMA_VERSION}"
        )
    return manifest

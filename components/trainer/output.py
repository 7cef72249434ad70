"""The model folder: what training leaves for the converter, byte for byte the same for the same training."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from components.kfp_io import write_json
from components.trainer.backbone import read_backbone
from components.trainer.crf import CRF, transitions_of

if TYPE_CHECKING:
    from components.trainer.data import TrainingData
    from components.trainer.settings import Hyperparameters, TrainingSettings
    from components.trainer.training import Result
    from components.trainer.warm_start import WarmStart

SCHEMA_VERSION = 1


def write_model(
    folder: Path,
    result: Result,
    data: TrainingData,
    backbone: Path,
    hyperparameters: Hyperparameters,
    settings: TrainingSettings,
    seed: int,
    warm_start: WarmStart | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """Write config.json, model.safetensors, tokenizer.json, ner.json and history.json into `folder`; return ner.json.

    No time stands in any of them: training again with the same inputs must leave what follows cached.
    """
    manifest = read_backbone(backbone)
    folder.mkdir(parents=True, exist_ok=True)
    result.model.config.architectures = [type(result.model).__name__]
    (folder / "config.json").write_text(result.model.config.to_json_string(use_diff=True), encoding="utf-8")
    state = result.model.state_dict()
    # What a field has learned is no part of the network: whoever decodes needs it as numbers.
    weights = {name: tensor.contiguous() for name, tensor in state.items() if not name.startswith(f"{CRF}.")}
    # save_file would make a file that only this uid can read; the next step may run under another.
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    shutil.copyfile(backbone / "tokenizer.json", folder / "tokenizer.json")
    facts = {
        "schema_version": SCHEMA_VERSION,
        "backbone": {"name": manifest.name, "revision": manifest.revision},
        "entity_types": list(data.entity_types),
        "labels": list(result.labels),
        "window": dataclasses.asdict(result.window),
        "transitions": transitions_of(result.model),
        "hyperparameters": dataclasses.asdict(hyperparameters),
        "training": dataclasses.asdict(settings),
        "seed": seed,
        "dataset_sha256": data.content_sha256,
        **({"processes": processes} if processes > 1 else {}),
        **({"warm_start_sha256": warm_start.sha256} if warm_start else {}),
        # The score of a refit is of documents that it has learned from; whoever reads it must be able to tell.
        "scores": {"validation": {**result.scores.as_json(), **({"learned_from": True} if settings.all_data else {})}},
        "best_epoch": result.best_epoch,
    }
    write_json(folder / "ner.json", facts)
    history = [
        {"epoch": epoch.number, "loss": epoch.loss, "macro_f1": epoch.macro_f1, "micro_f1": epoch.micro_f1}
        for epoch in result.history
    ]
    write_json(folder / "history.json", history)
    return facts

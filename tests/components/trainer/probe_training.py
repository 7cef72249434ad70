"""Runs inside the trainer's image: trains variants on one backbone and prints facts about each as JSON."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from components.ner.predict import WindowSettings
from components.trainer.data import IGNORED, TrainingData, load_data, make_windows
from components.trainer.model import load_tokenizer
from components.trainer.settings import parse_hyperparameters, parse_training
from components.trainer.training import train


def digest(model: torch.nn.Module) -> str:
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(name.encode() + tensor.numpy().tobytes())
    return hashed.hexdigest()


def covered(data: TrainingData, tokenizer: Tokenizer, window: WindowSettings) -> bool:
    """Return whether windows that do not overlap hold, one after another, exactly the tokens of all documents."""
    held = [
        token for made in make_windows(data.train, tokenizer, data.labels, window) for token in made.input_ids[1:-1]
    ]
    return held == [token for item in data.train for token in tokenizer.encode(item.text, add_special_tokens=False).ids]


def main() -> None:
    request = json.loads(sys.argv[1])
    data, backbone = load_data(Path("/dataset")), Path("/backbone")
    facts = {}
    for name, variant in request.items():
        settings = parse_training({"epochs": 1, "max_tokens": 64, "stride": 16, **variant.get("training", {})})
        hyperparameters = parse_hyperparameters(variant.get("hyperparameters", {}), settings)
        result = train(data, backbone, hyperparameters, settings, variant.get("seed", 13), log=lambda line: None)
        rates = {module.p for module in result.model.modules() if isinstance(module, torch.nn.Dropout)}
        tokenizer = load_tokenizer(backbone)
        windows = make_windows(data.train, tokenizer, data.labels, result.window)
        facts[name] = {
            "weights": digest(result.model),
            "dropout": sorted(rates),
            "longest": max(len(window.input_ids) for window in windows),
            "windows": len(windows),
            "labelled": sum(int((window.labels != IGNORED).sum()) for window in windows),
            "tokens": sum(len(tokenizer.encode(item.text, add_special_tokens=False).ids) for item in data.train),
            "covered": covered(data, tokenizer, replace(result.window, stride=0)),
        }
    print("FACTS " + json.dumps(facts))


main()

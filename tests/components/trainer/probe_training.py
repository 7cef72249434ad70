"""Runs inside the trainer's image: trains variants on one backbone and prints facts about each as JSON."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from tokenizers import Tokenizer

from components.kfp_io import StepError
from components.ner.labels import legal_transitions
from components.ner.predict import WindowSettings
from components.trainer.crf import Crf, add_crf, transitions_of
from components.trainer.data import (
    IGNORED,
    TrainingData,
    Window,
    load_data,
    make_windows,
    plan_batches,
    window_settings,
)
from components.trainer.loop import Loop, class_weights
from components.trainer.model import load_model, load_tokenizer, make_repeatable
from components.trainer.output import write_model
from components.trainer.settings import parse_hyperparameters, parse_training
from components.trainer.training import Extras, train
from components.trainer.warm_start import apply_warm_start, read_warm_start


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


def accumulation(data: TrainingData, backbone: Path) -> dict[str, float]:
    """Return how far the gradient of six windows in one batch is from that in three batches, and the largest of its numbers.

    After one step, AdamW's running mean of the gradients is a tenth of the first.
    """
    settings = parse_training({"epochs": 1, "max_tokens": 64, "stride": 16})
    found = []
    for size, group in ((6, 1), (2, 3)):
        values = {"batch_size": size, "gradient_accumulation": group, "dropout": 0, "max_grad_norm": 1e9}
        make_repeatable(3)
        model = load_model(backbone, data.labels, 0.0, 64)
        loop = Loop(model, examples(data, backbone)[:6], parse_hyperparameters(values, settings), settings, 0, None, 3)
        loop.run_epoch(1, lambda: None)
        found.append([state["exp_avg"] for state in loop.state()["optimizer"]["state"].values()])
    differences = [float((one - three).abs().max()) for one, three in zip(*found, strict=True)]
    return {"difference": max(differences), "largest": max(float(tensor.abs().max()) for tensor in found[0])}


def layer_rates(data: TrainingData, backbone: Path) -> dict[str, list[float]]:
    """Return the learning rates of the optimiser's groups, for two decays, and with a classifier and a field of their own."""
    settings = parse_training({"epochs": 1, "max_tokens": 64, "stride": 16, "warmup_ratio": 0})
    found = {}
    for name, given in {"0.5": {"layer_decay": 0.5}, "1.0": {}, "head": {"layer_decay": 0.5, "head_rate": 10}}.items():
        hyperparameters = parse_hyperparameters({**given, "learning_rate": 1e-3}, settings)
        model = load_model(backbone, data.labels, 0.0, 64)
        if name == "head":
            add_crf(model, data.labels)
        loop = Loop(model, examples(data, backbone), hyperparameters, settings, 0, None, 3)
        found[name] = sorted({group["initial_lr"] for group in loop.state()["optimizer"]["param_groups"]})
    return found


class Recorder(torch.nn.Module):
    """A model that remembers what it was shown."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.config, self.seen = model, model.config, []
        self.base_model_prefix = f"model.{model.base_model_prefix}"

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        self.seen.append(input_ids)
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


def hidden(data: TrainingData, backbone: Path) -> dict[str, float]:
    settings = parse_training({"epochs": 1, "max_tokens": 64, "stride": 16})
    hyperparameters = parse_hyperparameters({"word_dropout": 0.3}, settings)
    model = Recorder(load_model(backbone, data.labels, 0.0, 64))
    windows = examples(data, backbone)
    Loop(model, windows, hyperparameters, settings, 0, 103, 3).run_epoch(1, lambda: None)
    masked = sum(int((ids == 103).sum()) for ids in model.seen)
    special = sum(int((ids == 101).sum()) + int((ids == 102).sum()) for ids in model.seen)
    tokens = sum(int((window.labels != IGNORED).sum()) for window in windows)
    return {"share": masked / tokens, "special": special - 2 * len(windows)}


def examples(data: TrainingData, backbone: Path) -> list[Window]:
    tokenizer = load_tokenizer(backbone)
    return make_windows(data.train, tokenizer, data.labels, window_settings(tokenizer, 64, 16, 0))


def grouping() -> dict[str, float | bool]:
    random = np.random.default_rng(5)
    lengths = random.integers(3, 200, size=512).tolist()

    def padding(plan: list[list[int]]) -> int:
        return sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in plan)

    plan = plan_batches(lengths, 8, random)
    order = random.permutation(len(lengths)).tolist()
    return {
        "once": sorted(index for batch in plan for index in batch) == list(range(len(lengths))),
        "padding": padding(plan),
        "padding_at_random": padding([order[at : at + 8] for at in range(0, len(order), 8)]),
    }


def weights_of_classes() -> dict[str, list[float] | None]:
    marked = np.array([IGNORED] + [0] * 90 + [1] * 9 + [2] + [IGNORED])
    example = Window(np.zeros_like(marked), marked)
    found = {weighting: class_weights([example], 4, weighting) for weighting in (0, 0.5, 1)}
    return {f"{key:g}": None if value is None else value.tolist() for key, value in found.items()}


def field() -> dict[str, float]:
    """Return the loss of a small field beside that from a sum over every sequence; and what its gradient makes of a forbidden step.

    Of the second window's tokens one within stands for no character, and the third window holds none that does.
    """
    torch.manual_seed(5)
    labels = ["O", "B-X", "I-X"]
    crf = Crf(labels)
    with torch.no_grad():
        crf.transitions.copy_(torch.randn(3, 3))
    logits = torch.randn(3, 6, 3)
    gold = torch.tensor([[IGNORED, 0, 1, 2, 0, IGNORED], [IGNORED, 2, IGNORED, 2, IGNORED, IGNORED], [IGNORED] * 6])
    loss = crf.loss(logits, gold)
    loss.backward()
    expected = 0.0
    for rows, marked in zip(logits.double(), gold, strict=True):
        inside = marked != IGNORED

        def score(path: tuple[int, ...], rows: torch.Tensor = rows[inside]) -> float:
            steps = [float(crf.transitions[before, after]) for before, after in itertools.pairwise(path)]
            legal = all(after != 2 or before for before, after in itertools.pairwise(path))
            return (
                sum(float(row[label]) for row, label in zip(rows, path, strict=True)) + sum(steps)
                if legal
                else -math.inf
            )

        total = sum(math.exp(score(path)) for path in itertools.product(range(3), repeat=int(inside.sum())))
        expected += math.log(total) - score(tuple(marked[inside].tolist()))
    assert crf.transitions.grad is not None
    return {"loss": loss.item(), "expected": expected, "forbidden": float(crf.transitions.grad[0, 2])}


def fields(folder: Path, data: TrainingData, backbone: Path) -> dict[str, object]:
    """Return what a model with a field, left in `folder`, says of transitions, and what a warm start from it takes over."""
    start = read_warm_start(folder, backbone)
    given = start.transitions
    assert given is not None
    model = load_model(backbone, data.labels, 0.0, 64)
    add_crf(model, data.labels)
    apply_warm_start(model, data.labels, start)
    taken = transitions_of(model)
    return {
        "learned": max(abs(score) for row in given for score in row),
        "forbidden": [given[before][after] for before, after in np.argwhere(~legal_transitions(data.labels))],
        "taken": taken == given,
        "in the weights": [name for name in start.weights if "crf" in name],
    }


def refusal(folder: Path, backbone: Path, labels: list[str]) -> str:
    try:
        apply_warm_start(load_model(backbone, labels, 0.0, 64), labels, read_warm_start(folder, backbone))
    except StepError as error:
        return error.message
    return "was taken"


def warm_starts(folder: Path, data: TrainingData, backbone: Path) -> dict[str, object]:
    """Return what a warm start from the model in `folder` takes for the same labels and for others, and what it refuses."""
    facts: dict[str, object] = {}
    start = read_warm_start(folder, backbone)
    for name, labels in (("same", data.labels), ("other", ["O", "B-PERSON", "I-PERSON", "B-NEW", "I-NEW"])):
        make_repeatable(77)
        model = load_model(backbone, labels, 0.0, 64)
        known = apply_warm_start(model, labels, start)
        state = model.state_dict()
        body = all(torch.equal(state[key], start.weights[key]) for key in state if key.startswith("bert."))
        head = start.weights["classifier.weight"]
        rows = [
            label in start.labels and torch.equal(row, head[list(start.labels).index(label)])
            for label, row in zip(labels, state["classifier.weight"], strict=True)
        ]
        facts[name] = {"known": known, "body": body, "rows": rows}
    for name in ("tokenizer", "missing"):
        changed = Path("/tmp") / name
        shutil.copytree(folder, changed)
        if name == "tokenizer":
            (changed / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
        else:
            fewer = {key: tensor for key, tensor in start.weights.items() if "layer.1.output" not in key}
            (changed / "model.safetensors").write_bytes(save(fewer))
        facts[name] = refusal(changed, backbone, data.labels)
    facts["nothing"] = refusal(Path("/tmp"), backbone, data.labels)
    return facts


def main() -> None:
    request = json.loads(sys.argv[1])
    data, backbone = load_data(Path("/dataset")), Path("/backbone")
    facts = {
        "accumulation": accumulation(data, backbone),
        "grouping": grouping(),
        "hidden": hidden(data, backbone),
        "rates": layer_rates(data, backbone),
        "class_weights": weights_of_classes(),
        "field": field(),
    }
    folder = Path("/tmp/model")
    for name, variant in request.items():
        settings = parse_training({"epochs": 1, "max_tokens": 64, "stride": 16, **variant.get("training", {})})
        hyperparameters = parse_hyperparameters(variant.get("hyperparameters", {}), settings)
        extras = Extras(warm_start=read_warm_start(folder, backbone) if variant.get("warm_start") else None)
        seed = variant.get("seed", 13)
        result = train(data, backbone, hyperparameters, settings, seed, log=lambda line: None, extras=extras)
        if name == "base":
            write_model(folder, result, data, backbone, hyperparameters, settings, seed)
        if name == "crf":
            write_model(Path("/tmp/crf"), result, data, backbone, hyperparameters, settings, seed)
            facts["fields"] = fields(Path("/tmp/crf"), data, backbone)
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
    facts["warm_start_weights"] = warm_starts(folder, data, backbone)
    print("FACTS " + json.dumps(facts))


main()

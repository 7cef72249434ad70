"""Weights of an earlier training as the start of another: the body whole, the classifier's rows by the names of their labels."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from components.kfp_io import StepError
from components.trainer.crf import CRF, crf_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class WarmStart:
    """The weights of a model folder, and what they were trained to tell apart."""

    folder: Path
    labels: Sequence[str]
    weights: Mapping[str, torch.Tensor]
    transitions: Sequence[Sequence[float]] | None
    """What its conditional random field had learned, None if it had none."""
    sha256: str
    """Of model.safetensors."""


def read_warm_start(folder: Path, backbone: Path) -> WarmStart:
    """Read a model folder of this step. Raises StepError if it is none, or reads text otherwise than `backbone` does."""
    try:
        facts = json.loads((folder / "ner.json").read_text(encoding="utf-8"))
        labels, transitions = [str(label) for label in facts["labels"]], facts.get("transitions")
        content = (folder / "model.safetensors").read_bytes()
        same = (folder / "tokenizer.json").read_bytes() == (backbone / "tokenizer.json").read_bytes()
        weights = load(content)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise StepError(f"warm start {folder}: is not a model folder of the trainer: {error}") from error
    if not same:
        raise StepError(
            f"warm start {folder}: its tokenizer is not the backbone's", hint="give the backbone that it was trained on"
        )
    return WarmStart(folder, labels, weights, transitions, hashlib.sha256(content).hexdigest())


def apply_warm_start(model: PreTrainedModel, labels: Sequence[str], start: WarmStart) -> int:
    """Copy the weights into `model`, which tells `labels` apart; return how many of these the start knew.

    Rows of labels that it did not know keep what they are. Raises StepError if a tensor is missing or of another shape.
    """
    rows = [(index, start.labels.index(label)) for index, label in enumerate(labels) if label in start.labels]
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.startswith(f"{CRF}."):
                continue
            given = start.weights.get(name)
            head = not name.startswith(f"{model.base_model_prefix}.") and len(tensor) == len(labels)
            if given is not None and head and given.shape == (len(start.labels), *tensor.shape[1:]):
                for ours, theirs in rows:
                    tensor[ours] = given[theirs]
            elif given is not None and given.shape == tensor.shape:
                tensor.copy_(given)
            else:
                shape = "is missing" if given is None else f"has shape {list(given.shape)}, not {list(tensor.shape)}"
                raise StepError(
                    f"warm start {start.folder}: {name} {shape}", hint="give the backbone that it was trained on"
                )
        field = crf_of(model)
        if field is not None and start.transitions is not None:
            for (before, theirs), (after, others) in itertools.product(rows, rows):
                field.transitions[before, after] = start.transitions[theirs][others]
    return len(rows)

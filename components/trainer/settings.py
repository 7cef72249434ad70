"""Hyperparameters and training settings: typed and checked. Standard library only, so that the host can use it too."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from components.kfp_io import StepError


@dataclass(frozen=True)
class Hyperparameters:
    """What a search may vary.

    learning_rate: peak rate of AdamW. batch_size: windows in one batch. weight_decay: on all weights but biases and
    norms. dropout: of embeddings, attention, hidden layers and classifier alike. gradient_accumulation: batches in one
    optimiser step. warmup_ratio: share of all steps in which the rate rises. max_grad_norm: gradients are clipped to
    it. head_rate: the classifier, which begins at nothing, learns at so many times the rate. layer_decay: each layer
    learns at this share of the rate of what is above it; 1: all alike.
    word_dropout: share of tokens that are hidden from the model in training, so that it learns from what stands around.
    layers: keep the backbone's first so many layers, for a faster model; 0 keeps all.
    """

    learning_rate: float = 3e-4
    batch_size: int = 8
    weight_decay: float = 0.01
    dropout: float = 0.1
    gradient_accumulation: int = 1
    warmup_ratio: float = 0.1
    max_grad_norm: float = 1.0
    head_rate: float = 1.0
    layer_decay: float = 1.0
    word_dropout: float = 0.0
    layers: int = 0


@dataclass(frozen=True)
class TrainingSettings:
    """What stays the same over a search.

    epochs: at most this many passes. patience: stop after so many epochs without a better validation score; 0 never
    stops. max_tokens: length of a window, special tokens included. stride: tokens that neighbouring windows share.
    all_data: learn from the validation documents too, for all `epochs`, and keep the last one: the refit of a final model.
    class_weighting: how much rare labels count for in the loss, from 0 (each token the same) to 1 (each label the same).
    mixed_precision: multiply in bfloat16; the weights stay float32. crf: learn with a conditional random field over the labels what
    may follow what, and decode with it; else each token is learned for itself, and decoding keeps to the rules of BIO alone.
    """

    epochs: int = 6
    patience: int = 2
    max_tokens: int = 256
    stride: int = 64
    gradient_accumulation: int = 1
    warmup_ratio: float = 0.1
    max_grad_norm: float = 1.0
    head_rate: float = 1.0
    layer_decay: float = 1.0
    word_dropout: float = 0.0
    all_data: bool = False
    class_weighting: float = 0.0
    mixed_precision: bool = False
    crf: bool = False


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    open_low: bool = False

    def holds(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low = "above" if self.open_low else "at least"
        return f"{low} {self.low:g}" + (f" and at most {self.high:g}" if math.isfinite(self.high) else "")


_RANGES: Mapping[str, _Range] = {
    "layers": _Range(0, 1000),
    "learning_rate": _Range(0, math.inf, open_low=True),
    "batch_size": _Range(1, 4096),
    "weight_decay": _Range(0, math.inf),
    "dropout": _Range(0, 0.95),
    "gradient_accumulation": _Range(1, 4096),
    "warmup_ratio": _Range(0, 1),
    "max_grad_norm": _Range(0, math.inf, open_low=True),
    "head_rate": _Range(0, 1000, open_low=True),
    "layer_decay": _Range(0, 1, open_low=True),
    "word_dropout": _Range(0, 0.9),
    "epochs": _Range(1, 10_000),
    "patience": _Range(0, 10_000),
    "max_tokens": _Range(8, 100_000),
    "stride": _Range(0, 100_000),
    "class_weighting": _Range(0, 1),
}

_Settings = TypeVar("_Settings", Hyperparameters, TrainingSettings)

HYPERPARAMETER_NAMES = tuple(field.name for field in fields(Hyperparameters))
WHOLE_NAMES = tuple(field.name for field in fields(Hyperparameters) if field.type == "int")
TRAINING_NAMES = tuple(field.name for field in fields(TrainingSettings))


def parse_hyperparameters(values: Mapping[str, Any], training: TrainingSettings) -> Hyperparameters:
    """Return typed hyperparameters; what is a training setting too (accumulation, warm-up, ...) comes from there where `values` has none.

    Raises StepError for an unknown name (with the closest known one), a wrong type or a value out of range.
    """
    shared = {name: getattr(training, name) for name in HYPERPARAMETER_NAMES if name in TRAINING_NAMES}
    return Hyperparameters(**{**shared, **_checked(Hyperparameters, values, "hyperparameter")})


def parse_training(values: Mapping[str, Any]) -> TrainingSettings:
    """Return typed training settings. Raises StepError like `parse_hyperparameters`, and if windows cannot advance."""
    settings = TrainingSettings(**_checked(TrainingSettings, values, "training setting"))
    if settings.stride >= settings.max_tokens - 2:
        raise StepError(
            f"training setting stride is {settings.stride}, but a window of max_tokens {settings.max_tokens} holds "
            f"{settings.max_tokens - 2} tokens of text: windows would not advance",
            hint="choose a stride of about a quarter of max_tokens",
        )
    if settings.crf and settings.class_weighting:
        raise StepError(
            f"training setting class_weighting is {settings.class_weighting:g}, but with crf the loss is of whole sequences, whose "
            "labels cannot be weighted",
            hint="set class_weighting: 0 or crf: false",
        )
    return settings


def read_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the hyperparameters of `NAME=VALUE` texts, whose values are JSON. Raises StepError naming the text."""
    found: dict[str, Any] = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError as error:
            raise StepError(f"--hyperparameter {text!r}: expected NAME=VALUE, with a number as the value") from error
        if not separator:
            raise StepError(f"--hyperparameter {text!r}: expected NAME=VALUE")
    return found


def check_value(name: str, value: Any) -> int | float:
    """Return one hyperparameter's value as its declared type, for a search space. Raises StepError."""
    checked: int | float = _checked(Hyperparameters, {name: value}, "hyperparameter")[name]
    return checked


def unknown(kind: str, name: str, known: Iterable[str]) -> StepError:
    """Return the error for an unknown `name` of `kind`, with the closest known name or all of them as the hint."""
    choices = list(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(choices)}"
    return StepError(f"unknown {kind} {name!r}", hint=hint)


def _checked(target: type[_Settings], values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise StepError(f"{kind}s must be a mapping of names to values, got {values!r}")
    types = {field.name: field.type for field in fields(target)}
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise unknown(kind, name, types)
        if types[name] == "bool":
            checked[name] = _flag(kind, name, value)
        else:
            checked[name] = _number(kind, name, value, whole=types[name] == "int")
    return checked


def _flag(kind: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise StepError(f"{kind} {name} must be true or false, got {value!r}")
    return value


def _number(kind: str, name: str, value: Any, *, whole: bool) -> int | float:
    """Return `value` as the declared type; a whole float passes for an integer, since KFP's Struct has only doubles."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StepError(f"{kind} {name} must be a number, got {value!r}")
    if not math.isfinite(value) or not _RANGES[name].holds(value):
        raise StepError(f"{kind} {name} is {value!r}, it must be {_RANGES[name]}")
    if not whole:
        return float(value)
    if value != int(value):
        raise StepError(f"{kind} {name} must be a whole number, got {value!r}")
    return int(value)

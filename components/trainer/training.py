"""The training loop, used by the trainer and by each trial of a search."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.kfp_io import StepError
from components.ner.metrics import Scores, span_scores
from components.ner.predict import Tagger, WindowSettings
from components.trainer.data import (
    IGNORED,
    Batch,
    TrainingData,
    Window,
    collate,
    make_windows,
    plan_batches,
    window_settings,
)
from components.trainer.model import load_model, load_tokenizer, make_repeatable
from components.trainer.settings import Hyperparameters, TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Diverged(StepError):
    """Training cannot go on: the loss or the gradients are no longer numbers."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data: mean loss a token, and strict span scores on validation documents."""

    number: int
    loss: float
    macro_f1: float
    micro_f1: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """A trained model with the weights of its best epoch, and what is needed to use it."""

    model: PreTrainedModel
    labels: Sequence[str]
    window: WindowSettings
    history: Sequence[Epoch]
    best_epoch: int
    scores: Scores


def train(
    data: TrainingData,
    backbone: Path,
    hyperparameters: Hyperparameters,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> Result:
    """Fine-tune `backbone` on `data`; return the model of the epoch with the best validation span macro-F1.

    Stops early after `settings.patience` epochs without a better score; epochs before the first span is found do not
    count. With `settings.all_data` it learns from the validation documents too, and the last epoch is kept: no score could
    choose one. `on_epoch(number, macro_f1)` is called after each epoch, from 1 on, and may raise to end the training.
    The same arguments on the same machine and thread count give the same weights.
    Raises Diverged when the loss is no number, StepError for a backbone that cannot be used.
    """
    log = log or _print
    make_repeatable(seed)
    tokenizer = load_tokenizer(backbone)
    labels = data.labels
    model = load_model(backbone, labels, hyperparameters.dropout, settings.max_tokens)
    pad_id = model.config.pad_token_id or 0
    window = window_settings(tokenizer, settings.max_tokens, settings.stride, pad_id)
    documents = [*data.train, *data.validation] if settings.all_data else data.train
    examples = make_windows(documents, tokenizer, labels, window)
    tagger = Tagger(tokenizer, labels, window, infer_with(model))
    loop = _Loop(model, examples, hyperparameters, settings.epochs, pad_id, np.random.default_rng(seed))
    gold = [document.spans for document in data.validation]

    history: list[Epoch] = []
    best: Scores | None = None
    best_epoch = 0
    best_weights: dict[str, torch.Tensor] = {}
    for number in range(1, settings.epochs + 1):
        started = time.perf_counter()
        loss = loop.run_epoch(number)
        scores = span_scores(gold, [tagger.tag(document.text) for document in data.validation], data.entity_types)
        epoch = Epoch(number, loss, scores.macro_f1, scores.micro_f1, time.perf_counter() - started)
        history.append(epoch)
        log(
            f"epoch {number}/{settings.epochs}  loss {loss:.4f}  validation macro-F1 {epoch.macro_f1:.4f}  "
            f"{epoch.seconds:.1f} s"
        )
        if best is None or settings.all_data or scores.macro_f1 > best.macro_f1 or best.macro_f1 == 0:
            best, best_epoch = scores, number
            best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if on_epoch is not None:
            on_epoch(number, scores.macro_f1)
        if settings.patience and number - best_epoch >= settings.patience:
            log(f"stopped early: no better score since epoch {best_epoch}")
            break
    if best is None:
        raise StepError("training ran no epoch")
    model.load_state_dict(best_weights)
    model.eval()
    return Result(model, labels, window, history, best_epoch, best)


def _print(line: str) -> None:
    print(line, flush=True)


def infer_with(model: PreTrainedModel) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return Tagger's function: int64 ids and mask [windows, tokens] to float32 logits [windows, tokens, labels]."""

    def infer(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        model.eval()
        with torch.inference_mode():
            output = model(input_ids=torch.from_numpy(input_ids), attention_mask=torch.from_numpy(attention_mask))
        logits: np.ndarray = output.logits.numpy()
        return logits

    return infer


def learning_rate_factor(step: int, total: int, warmup: int) -> float:
    """Return the share of the peak rate at optimiser step `step`, from 0: linear rise over `warmup`, linear fall."""
    if step < warmup:
        return (step + 1) / warmup
    return (total - step) / max(1, total - warmup)


class _Loop:
    """AdamW over all windows, epoch by epoch."""

    def __init__(
        self,
        model: PreTrainedModel,
        examples: Sequence[Window],
        hyperparameters: Hyperparameters,
        epochs: int,
        pad_id: int,
        random: np.random.Generator,
    ) -> None:
        self._model = model
        self._examples = examples
        self._hyperparameters = hyperparameters
        self._pad_id = pad_id
        self._random = random
        batches = math.ceil(len(examples) / hyperparameters.batch_size)
        total = epochs * math.ceil(batches / hyperparameters.gradient_accumulation)
        warmup = math.ceil(total * hyperparameters.warmup_ratio)
        self._optimizer = _optimizer(model, hyperparameters)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: learning_rate_factor(step, total, warmup)
        )

    def run_epoch(self, number: int) -> float:
        """Train on every window once; return the mean loss of a token. Raises Diverged."""
        self._model.train()
        lengths = [len(example.input_ids) for example in self._examples]
        plan = plan_batches(lengths, self._hyperparameters.batch_size, self._random)
        group = self._hyperparameters.gradient_accumulation
        loss, tokens = 0.0, 0
        for start in range(0, len(plan), group):
            batches = [
                collate([self._examples[index] for index in members], self._pad_id)
                for members in plan[start : start + group]
            ]
            labelled = sum(int((batch.labels != IGNORED).sum()) for batch in batches)
            step_loss = self._step(batches, labelled)
            if not math.isfinite(step_loss):
                raise Diverged(
                    f"training diverged in epoch {number}: the loss is {step_loss} at learning_rate "
                    f"{self._hyperparameters.learning_rate:g}",
                    hint="lower the learning rate, or raise warmup_ratio",
                )
            loss, tokens = loss + step_loss, tokens + labelled
        return loss / tokens

    def _step(self, batches: Sequence[Batch], labelled: int) -> float:
        """Take one optimiser step on `batches`, whose loss is averaged over all their tokens; return its sum."""
        total = 0.0
        for batch in batches:
            logits = self._model(
                input_ids=torch.from_numpy(batch.input_ids), attention_mask=torch.from_numpy(batch.attention_mask)
            ).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), torch.from_numpy(batch.labels).flatten(), ignore_index=IGNORED, reduction="sum"
            )
            (loss / labelled).backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._hyperparameters.max_grad_norm)
        if not torch.isfinite(norm):
            return math.nan
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total


def _optimizer(model: PreTrainedModel, hyperparameters: Hyperparameters) -> torch.optim.AdamW:
    """Return AdamW; biases and the weights of norms, which have one dimension, are not decayed."""
    decayed: list[Any] = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim > 1]
    free: list[Any] = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": hyperparameters.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=hyperparameters.learning_rate,
        fused=True,
    )

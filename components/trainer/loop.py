"""AdamW over all windows, step by step, from any step on."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.kfp_io import StepError
from components.trainer.crf import CRF, crf_of
from components.trainer.data import IGNORED, Batch, Window, collate, plan_batches
from components.trainer.processes import Processes
from components.trainer.settings import Hyperparameters, TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_LAYER = re.compile(r"\.layers?\.(\d+)\.")
"""In the name of a parameter: its layer, as BERT, RoBERTa, DeBERTa, ELECTRA, DistilBERT and ModernBERT write it."""


_CRF_RATE = 10.0
"""Scores of one label after another are few and far from each other: they learn so much faster than the classifier."""


class Diverged(StepError):
    """Training cannot go on: the loss or the gradients are no longer numbers."""


def learning_rate_factor(step: int, total: int, warmup: int) -> float:
    """Return the share of the peak rate at optimiser step `step`, from 0: linear rise over `warmup`, linear fall."""
    if step < warmup:
        return (step + 1) / warmup
    return (total - step) / max(1, total - warmup)


def class_weights(examples: Sequence[Window], labels: int, weighting: float) -> torch.Tensor | None:
    """Return a float32 weight for each label, None if all are the same.

    A label that stands on n of N tokens gets (N / n) ** weighting, scaled so that the mean over all tokens is 1: the learning rate
    then means what it meant. A label that never occurs gets the weight of the rarest that does.
    """
    if weighting == 0:
        return None
    marked = np.concatenate([example.labels for example in examples])
    counts = np.bincount(marked[marked != IGNORED], minlength=labels).astype(np.float64)
    present = counts > 0
    weights = np.zeros(labels)
    weights[present] = (counts.sum() / counts[present]) ** weighting
    weights[~present] = weights.max()
    weights *= counts.sum() / (weights * counts).sum()
    return torch.from_numpy(weights.astype(np.float32))


class Loop:
    """One training's optimiser, schedule and place. `state` and `load` take it to another process, to the bit."""

    def __init__(
        self,
        model: PreTrainedModel,
        examples: Sequence[Window],
        hyperparameters: Hyperparameters,
        settings: TrainingSettings,
        pad_id: int,
        mask_id: int | None,
        seed: int,
        processes: Processes | None = None,
    ) -> None:
        """`mask_id` stands for a hidden token; it is needed for word dropout alone. Raises StepError without it."""
        if hyperparameters.word_dropout and mask_id is None:
            raise StepError("word_dropout hides tokens, but the backbone's tokenizer has no mask token")
        self._mask_id = mask_id or 0
        self._model = model
        self._examples = examples
        self._hyperparameters = hyperparameters
        self._mixed = settings.mixed_precision
        self._pad_id = pad_id
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._processes = processes or Processes()
        self._group = hyperparameters.gradient_accumulation * self._processes.count
        self._device = next(model.parameters()).device
        weights = class_weights(examples, model.config.num_labels, settings.class_weighting)
        self._weights = None if weights is None else weights.to(self._device)
        self._crf = crf_of(model)
        batches = math.ceil(len(examples) / hyperparameters.batch_size)
        total = settings.epochs * math.ceil(batches / self._group)
        warmup = math.ceil(total * hyperparameters.warmup_ratio)
        self._optimizer = _optimizer(model, hyperparameters)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: learning_rate_factor(step, total, warmup)
        )
        self._order = ""
        self._done = 0
        self._loss, self._tokens, self._seconds = 0.0, 0, 0.0

    def run_epoch(self, number: int, after_step: Callable[[], None]) -> tuple[float, float]:
        """Train on every window once, or on what an interrupted epoch has left; call `after_step` after each optimiser step.

        Returns the mean loss of a token and the labelled tokens a second. Raises Diverged.
        """
        self._model.train()
        if self._done == 0:
            self._order = json.dumps(self._random.bit_generator.state)
            self._loss, self._tokens, self._seconds = 0.0, 0, 0.0
        lengths = [len(example.input_ids) for example in self._examples]
        plan = plan_batches(lengths, self._hyperparameters.batch_size, self._random)
        for start in range(self._done * self._group, len(plan), self._group):
            begun = time.perf_counter()
            together = [[self._examples[index] for index in members] for members in plan[start : start + self._group]]
            labelled = sum(int((window.labels != IGNORED).sum()) for members in together for window in members)
            batches = [collate(members, self._pad_id) for members in self._processes.share(together)]
            step_loss = self._step(batches, labelled)
            if not math.isfinite(step_loss):
                raise Diverged(
                    f"training diverged in epoch {number}: the loss is {step_loss} at learning_rate "
                    f"{self._hyperparameters.learning_rate:g}",
                    hint="lower the learning rate, or raise warmup_ratio",
                )
            self._loss, self._tokens, self._done = self._loss + step_loss, self._tokens + labelled, self._done + 1
            self._seconds += time.perf_counter() - begun
            after_step()
        self._done = 0
        return self._loss / self._tokens, self._tokens / max(self._seconds, 1e-9)

    def _step(self, batches: Sequence[Batch], labelled: int) -> float:
        """Take one optimiser step on `batches` and those of the other processes; return the sum of their losses.

        The loss is averaged over the `labelled` tokens of all of them.
        """
        total = 0.0
        self._processes.draw_apart(self._seed, self._schedule.last_epoch)
        for batch in batches:
            labels = torch.from_numpy(batch.labels)
            ids = self._hidden(torch.from_numpy(batch.input_ids), labels).to(self._device)
            mask = torch.from_numpy(batch.attention_mask).to(self._device)
            with self._precision():
                logits = self._model(input_ids=ids, attention_mask=mask).logits
            loss = self._sum_of_losses(logits.float(), labels.to(self._device))
            (loss / labelled).backward()
            total += loss.item()
        total = self._processes.total(total)
        self._processes.sum_gradients(self._model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._hyperparameters.max_grad_norm)
        if not torch.isfinite(norm):
            return math.nan
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _sum_of_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of all labelled tokens, from logits [windows, tokens, labels] and labels [windows, tokens]."""
        if self._crf is not None:
            return self._crf.loss(logits, labels)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), weight=self._weights, ignore_index=IGNORED, reduction="sum"
        )

    def _hidden(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the token ids [windows, tokens] with some of those that have a label hidden; each keeps its label."""
        if not self._hyperparameters.word_dropout:
            return ids
        drawn = (torch.rand(ids.shape) < self._hyperparameters.word_dropout) & (labels != IGNORED)
        return ids.masked_fill(drawn, self._mask_id)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._mixed else nullcontext()

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the training depends on, as plain values and tensors."""
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "order": self._order if self._done else json.dumps(self._random.bit_generator.state),
            "random": torch.get_rng_state(),
            "gpu_random": self._gpu_random(),
            "done": self._done,
            "loss": self._loss,
            "tokens": self._tokens,
            "seconds": self._seconds,
        }

    def _gpu_random(self) -> list[torch.Tensor]:
        """Return the generators of all GPUs; several processes seed them anew at each step, and each touches its own GPU alone."""
        alone = self._device.type == "cuda" and self._processes.count == 1
        return torch.cuda.get_rng_state_all() if alone else []

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._order = state["order"]
        self._random.bit_generator.state = json.loads(self._order)
        torch.set_rng_state(state["random"])
        if state["gpu_random"]:
            torch.cuda.set_rng_state_all(state["gpu_random"])
        self._done, self._tokens = int(state["done"]), int(state["tokens"])
        self._loss, self._seconds = float(state["loss"]), float(state["seconds"])


def _optimizer(model: PreTrainedModel, hyperparameters: Hyperparameters) -> torch.optim.AdamW:
    """Return AdamW; biases and the weights of norms, which have one dimension, are not decayed.

    What is above the layers learns at the full rate, each layer at `layer_decay` of what is above it, the embeddings at the least; the
    classifier at `head_rate` times the full rate, a field over it at `_CRF_RATE` times that.
    """
    groups: dict[tuple[float, float], list[Any]] = {}
    depths = _depths(model)
    top = max(depths.values(), default=0)
    body = f"{model.base_model_prefix}."
    learned = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    for name, weight in sorted(learned, key=lambda item: item[1].ndim <= 1):
        rate, decay = hyperparameters.learning_rate, hyperparameters.weight_decay if weight.ndim > 1 else 0.0
        if name.startswith(body):
            rate *= hyperparameters.layer_decay ** (top - depths[name])
        elif name.startswith(f"{CRF}."):
            rate, decay = rate * hyperparameters.head_rate * _CRF_RATE, 0.0
        else:
            rate *= hyperparameters.head_rate
        groups.setdefault((rate, decay), []).append(weight)
    return torch.optim.AdamW(
        [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()],
        lr=hyperparameters.learning_rate,
        fused=True,
    )


def _depths(model: PreTrainedModel) -> dict[str, int]:
    """Return how high each parameter stands: 0 for embeddings, then the layers, then the rest of the body and the classifier."""
    names = [name for name, _ in model.named_parameters()]
    layers = {name: int(found[1]) + 1 for name in names if (found := _LAYER.search(name))}
    top = max(layers.values(), default=0) + 1
    return {name: layers.get(name, 0 if "embeddings" in name else top) for name in names}

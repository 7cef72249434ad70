"""A training from its backbone to its best epoch, used by the trainer and by each trial of a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.kfp_io import StepError
from components.ner.metrics import Scores, span_scores
from components.ner.predict import Tagger, WindowSettings
from components.trainer.checkpoint import Checkpoints
from components.trainer.crf import add_crf, transitions_of
from components.trainer.data import TrainingData, make_windows, window_settings
from components.trainer.loop import Diverged, Loop
from components.trainer.model import load_model, load_tokenizer, make_repeatable, mask_id
from components.trainer.processes import Processes
from components.trainer.settings import Hyperparameters, TrainingSettings
from components.trainer.warm_start import WarmStart, apply_warm_start

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

__all__ = ["Diverged", "Epoch", "Result", "model_tagger", "train"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data: mean loss a token, strict span scores on validation documents, and how fast it was.

    `tokens_per_second` are labelled tokens learned from in a second of training, scoring left out.
    """

    number: int
    loss: float
    macro_f1: float
    micro_f1: float
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class Result:
    """A trained model with the weights of its best epoch, and what is needed to use it."""

    model: PreTrainedModel
    labels: Sequence[str]
    window: WindowSettings
    history: Sequence[Epoch]
    best_epoch: int
    scores: Scores


@dataclass(frozen=True)
class Extras:
    """What a training may have beside its settings. `report` hears of each epoch that was run here."""

    warm_start: WarmStart | None = None
    checkpoints: Checkpoints | None = None
    report: Callable[[Epoch], None] | None = None
    processes: Processes = field(default_factory=Processes)


def train(
    data: TrainingData,
    backbone: Path,
    hyperparameters: Hyperparameters,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
    log: Callable[[str], None] | None = None,
    extras: Extras | None = None,
) -> Result:
    """Fine-tune `backbone` on `data`; return the model of the epoch with the best validation span macro-F1.

    Stops early after `settings.patience` epochs without a better score; epochs before the first span is found do not
    count. With `settings.all_data` it learns from the validation documents too, and the last epoch is kept: no score could
    choose one. `on_epoch(number, macro_f1)` is called after each epoch, from 1 on, and may raise to end the training.
    The same arguments on the same machine and thread count give the same weights, interrupted or not.
    Raises Diverged when the loss is no number, StepError for a backbone that cannot be used.
    """
    log, extras = log or _print, extras or Extras()
    make_repeatable(seed)
    tokenizer = load_tokenizer(backbone)
    labels = data.labels
    model = load_model(backbone, labels, hyperparameters.dropout, settings.max_tokens, hyperparameters.layers)
    if settings.crf:
        add_crf(model, labels)
    if extras.warm_start is not None:
        known = apply_warm_start(model, labels, extras.warm_start)
        log(f"warm start: {known} of {len(labels)} labels are known")
    model.to(extras.processes.device)
    pad_id = model.config.pad_token_id or 0
    window = window_settings(tokenizer, settings.max_tokens, settings.stride, pad_id)
    documents = [*data.train, *data.validation] if settings.all_data else data.train
    examples = make_windows(documents, tokenizer, labels, window)
    loop = Loop(model, examples, hyperparameters, settings, pad_id, mask_id(tokenizer), seed, extras.processes)
    progress = _Progress(model, loop, settings, extras.checkpoints)
    progress.go_on(log)
    while not progress.ended(log):
        epoch, scores = _run_epoch(
            loop, progress, lambda: model_tagger(model, tokenizer, labels, window), data, settings, extras.processes
        )
        log(
            f"epoch {epoch.number}/{settings.epochs}  loss {epoch.loss:.4f}  validation macro-F1 {epoch.macro_f1:.4f}  "
            f"{epoch.seconds:.1f} s  {epoch.tokens_per_second:,.0f} tokens/s"
        )
        progress.add(epoch, scores)
        if extras.report is not None:
            extras.report(epoch)
        if on_epoch is not None:
            on_epoch(epoch.number, epoch.macro_f1)
    if progress.best is None:
        raise StepError("training ran no epoch")
    model.load_state_dict(progress.best_weights)
    model.to("cpu")
    model.eval()
    return Result(model, labels, window, progress.history, progress.best_epoch, progress.best)


def _run_epoch(
    loop: Loop,
    progress: _Progress,
    make_tagger: Callable[[], Tagger],
    data: TrainingData,
    settings: TrainingSettings,
    processes: Processes,
) -> tuple[Epoch, Scores]:
    number, started = len(progress.history) + 1, time.perf_counter()
    loss, speed = loop.run_epoch(number, progress.save)

    def score() -> tuple[Epoch, Scores]:
        gold, tagger = [document.spans for document in data.validation], make_tagger()
        scores = span_scores(gold, [tagger.tag(document.text) for document in data.validation], data.entity_types)
        epoch = Epoch(number, loss, scores.macro_f1, scores.micro_f1, time.perf_counter() - started, speed)
        return epoch, scores

    return processes.broadcast(score)


class _Progress:
    """The epochs so far and the best of them, here and in the checkpoint."""

    def __init__(
        self, model: PreTrainedModel, loop: Loop, settings: TrainingSettings, checkpoints: Checkpoints | None
    ) -> None:
        self._model = model
        self._loop = loop
        self._settings = settings
        self._checkpoints = checkpoints
        self.history: list[Epoch] = []
        self.best: Scores | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, torch.Tensor] = {}

    def add(self, epoch: Epoch, scores: Scores) -> None:
        """Keep an epoch, and its weights if it is the best."""
        self.history.append(epoch)
        if (
            self.best is None
            or self._settings.all_data
            or scores.macro_f1 > self.best.macro_f1
            or self.best.macro_f1 == 0
        ):
            self.best, self.best_epoch = scores, epoch.number
            self.best_weights = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self.save()

    def ended(self, log: Callable[[str], None]) -> bool:
        """Return whether there is no epoch left, or no hope of a better one."""
        done, patience = len(self.history), self._settings.patience
        if done and patience and done - self.best_epoch >= patience:
            if done < self._settings.epochs:
                log(f"stopped early: no better score since epoch {self.best_epoch}")
            return True
        return done >= self._settings.epochs

    def save(self) -> None:
        """Leave a checkpoint, if it is time for one."""
        if self._checkpoints is not None:
            self._checkpoints.save(self._state)

    def _state(self) -> Mapping[str, Any]:
        return {
            **self._loop.state(),
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best.as_json() if self.best else None,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def go_on(self, log: Callable[[str], None]) -> None:
        """Take the place of the training's last checkpoint, if it has one."""
        state = self._checkpoints.load() if self._checkpoints is not None else None
        if state is None:
            return
        self._loop.load(state)
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = Scores(**state["best"]) if state["best"] else None
        self.best_epoch = int(state["best_epoch"])
        self.best_weights = state["best_weights"]
        log(f"going on after {len(self.history)} epochs and {state['done']} steps")


def _print(line: str) -> None:
    print(line, flush=True)


def model_tagger(model: PreTrainedModel, tokenizer: Tokenizer, labels: Sequence[str], window: WindowSettings) -> Tagger:
    """Return what finds entities with `model`, as it is trained by now."""
    return Tagger(tokenizer, labels, window, infer_with(model), transitions=transitions_of(model))


def infer_with(model: PreTrainedModel) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return Tagger's function: int64 ids and mask [windows, tokens] to float32 logits [windows, tokens, labels]."""

    def infer(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        model.eval()
        with torch.inference_mode():
            ids, mask = (torch.from_numpy(array).to(model.device) for array in (input_ids, attention_mask))
            output = model(input_ids=ids, attention_mask=mask)
        logits: np.ndarray = output.logits.cpu().numpy()
        return logits

    return infer

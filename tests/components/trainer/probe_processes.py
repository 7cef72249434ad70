"""Runs inside the trainer's image: takes steps in two processes, and the same in one, and prints facts about both as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from components.trainer.data import Window, load_data, make_windows, window_settings
from components.trainer.launch import membership, run_processes
from components.trainer.loop import Loop
from components.trainer.model import load_model, load_tokenizer, make_repeatable
from components.trainer.processes import Processes, open_processes
from components.trainer.settings import parse_hyperparameters, parse_training

DATA, BACKBONE, FACTS = Path("/dataset"), Path("/backbone"), Path("/tmp/facts")
SETTINGS = {"epochs": 1, "max_tokens": 64, "stride": 16}


class Recorder(torch.nn.Module):
    """A model that remembers what it was shown."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.config, self.seen = model, model.config, []
        self.base_model_prefix = "model.bert"

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        self.seen.append(input_ids.tolist())
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


def gradients(processes: Processes, accumulation: int, windows: Sequence[Window]) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of an epoch over three batches, in two steps, and the optimiser's running means of their gradients.

    It learns so slowly that the second step has the weights of the first: rounding is all that may differ.
    """
    settings = parse_training(SETTINGS)
    values = {"batch_size": 2, "gradient_accumulation": accumulation, "dropout": 0, "learning_rate": 1e-12}
    make_repeatable(3)
    model = load_model(BACKBONE, load_data(DATA).labels, 0.0, 64)
    model.unused = torch.nn.Parameter(torch.ones(3, 3))
    given = parse_hyperparameters({**values, "max_grad_norm": 1e9}, settings)
    loop = Loop(model, windows, given, settings, 0, None, 3, processes)
    loss, _ = loop.run_epoch(1, lambda: None)
    return loss, [state["exp_avg"] for state in loop.state()["optimizer"]["state"].values()]


def hidden(processes: Processes, window: Window) -> list[object]:
    """Return what this process is shown of one window that stands in each batch, with some of its tokens hidden."""
    settings = parse_training(SETTINGS)
    make_repeatable(3)
    model = Recorder(load_model(BACKBONE, load_data(DATA).labels, 0.0, 64))
    given = parse_hyperparameters({"word_dropout": 0.3, "batch_size": 1}, settings)
    Loop(model, [window] * 4, given, settings, 0, 103, 3, processes).run_epoch(1, lambda: None)
    return model.seen


def main() -> None:
    member = membership()
    if member is None:
        if code := run_processes([sys.executable, *sys.argv], 2):
            raise SystemExit(code)
        print("FACTS " + json.dumps([json.loads(Path(f"{FACTS}{rank}").read_text()) for rank in range(2)]))
        return
    tokenizer = load_tokenizer(BACKBONE)
    data = load_data(DATA)
    windows = make_windows(data.train, tokenizer, data.labels, window_settings(tokenizer, 64, 16, 0))[:5]
    with open_processes(member) as processes:
        (loss, several), shown = gradients(processes, 1, windows), hidden(processes, windows[0])
    alone_loss, alone = gradients(Processes(), 2, windows)
    facts = {
        "share": len(shown),
        "loss": [loss, alone_loss],
        "parameters": [len(several), len(alone)],
        "difference": max(float((one - two).abs().max()) for one, two in zip(several, alone, strict=True)),
        "largest": max(float(tensor.abs().max()) for tensor in alone),
        "shown": shown,
    }
    Path(f"{FACTS}{member.rank}").write_text(json.dumps(facts))


main()

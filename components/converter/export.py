"""From a model folder to ONNX graphs, by torch's two exporters."""

from __future__ import annotations

import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from components.kfp_io import StepError
from components.ner.predict import Infer, WindowSettings
from components.ner.pytorch import load_network


@dataclass(frozen=True)
class Trained:
    """A loaded model folder."""

    folder: Path
    facts: dict[str, Any]
    """ner.json of the trainer."""
    network: torch.nn.Module
    config: Any
    """The configuration of transformers."""
    as_loaded: str
    """How it computes attention unless told otherwise."""

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    def attention(self, implementation: str) -> None:
        """Compute attention by `eager` operators or in one (`sdpa`)."""
        self.network.get_submodule("network").set_attn_implementation(implementation)

    @property
    def labels(self) -> list[str]:
        return list(self.facts["labels"])

    @property
    def transitions(self) -> list[list[float]] | None:
        """What its conditional random field has learned, None if it has none."""
        scores: list[list[float]] | None = self.facts.get("transitions")
        return scores

    @property
    def window(self) -> WindowSettings:
        return WindowSettings.from_json(self.facts["window"])


class _Logits(torch.nn.Module):
    """The network with the two inputs and the one output of a bundle."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def load(folder: Path) -> Trained:
    """Load what the trainer left: safetensors only, no download, no foreign code. Raises StepError."""
    try:
        facts = json.loads((folder / "ner.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StepError(f"{folder}: is not a model folder of the trainer: {error}") from error
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))
    network = load_network(folder, facts["labels"])
    config: Any = network.config
    return Trained(folder, facts, _Logits(network).eval(), config, str(config._attn_implementation))


def torch_infer(trained: Trained) -> Infer:
    """Return Tagger's function for the PyTorch model."""

    def infer(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = trained.network(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        return logits

    return infer


def export(trained: Trained, exporter: str, opset: int, target: Path) -> None:
    """Write one FP32 ONNX file with dynamic batch and sequence.

    Traced with two rows and an odd length, so that neither dimension is taken for a constant. Attention is written out below opset 23,
    where fusions find it; from there on it is one operator. Raises whatever the exporter raises.
    """
    ids = torch.randint(0, trained.vocabulary, (2, 9), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["logits"], "opset_version": opset}
    trained.attention("eager" if opset < 23 else "sdpa")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every optional package that is not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                _by_dynamo(trained, (ids, mask), target, names)
            else:
                _by_torchscript(trained, (ids, mask), target, names)
    finally:
        trained.attention(trained.as_loaded)


def _by_dynamo(trained: Trained, example: tuple[torch.Tensor, ...], target: Path, names: dict[str, Any]) -> None:
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=trained.window.max_tokens)
    shapes = {name: {0: batch, 1: tokens} for name in names["input_names"]}
    torch.onnx.export(
        trained.network,
        example,
        str(target),
        dynamo=True,
        dynamic_shapes=shapes,
        external_data=False,
        verbose=False,
        **names,
    )


def _by_torchscript(trained: Trained, example: tuple[torch.Tensor, ...], target: Path, names: dict[str, Any]) -> None:
    axes = {name: {0: "batch", 1: "tokens"} for name in (*names["input_names"], *names["output_names"])}
    torch.onnx.export(trained.network, example, str(target), dynamo=False, dynamic_axes=axes, **names)

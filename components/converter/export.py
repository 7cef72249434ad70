"""From a model folder to ONNX files: FP32 by torch's exporter, INT8 by dynamic quantisation."""

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

OPSET = 18


@dataclass(frozen=True)
class Trained:
    """A loaded model folder."""

    folder: Path
    facts: dict[str, Any]
    """ner.json of the trainer."""
    network: torch.nn.Module
    vocabulary: int

    @property
    def labels(self) -> list[str]:
        return list(self.facts["labels"])

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
    return Trained(folder, facts, _Logits(network).eval(), int(network.config.vocab_size))


def torch_infer(trained: Trained) -> Infer:
    """Return Tagger's function for the PyTorch model."""

    def infer(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = trained.network(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        return logits

    return infer


def onnx_infer(model: Path) -> Infer:
    """Return Tagger's function for an ONNX file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def infer(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        return logits

    return infer


def export_fp32(trained: Trained, target: Path) -> None:
    """Write one ONNX file with dynamic batch and sequence, and check it. Raises StepError.

    Traced with two rows and an odd length, so that neither dimension is taken for a constant.
    """
    import onnx

    ids = torch.randint(0, trained.vocabulary, (2, 9), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=trained.window.max_tokens)
    shapes = {"input_ids": {0: batch, 1: tokens}, "attention_mask": {0: batch, 1: tokens}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every optional package that is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            trained.network,
            (ids, mask),
            str(target),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    try:
        onnx.checker.check_model(str(target), full_check=True)
    except onnx.checker.ValidationError as error:
        raise StepError(f"the exported model is not valid ONNX: {error}") from error


def quantise_int8(source: Path, target: Path) -> None:
    """Write the INT8 variant: weights of matrix products and embeddings as 8-bit integers, activations quantised on the fly.

    One scale a channel: on both default backbones it changes 30 to 40 % as many labels as one scale a matrix does.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(
        logging.ERROR
    )  # the quantiser advises a pre-processing step that is for static quantisation
    quantize_dynamic(
        source, target, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gather"], per_channel=True
    )

"""The two runtimes that are measured: onnxruntime and PyTorch, each as the function that Tagger wants."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.benchmarker.processors import pin_onnxruntime, pin_openmp
from components.ner.predict import Infer


def onnx_infer(model: Path, threads: int) -> Infer:
    """Return Tagger's function for an ONNX file: one session, `threads` threads inside an operator, one operator at a time."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    pin_onnxruntime(options, threads)
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def infer(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        return logits

    return infer


def torch_infer(model: Path, labels: Sequence[str], threads: int) -> Infer:
    """Return Tagger's function for a model folder of the trainer: PyTorch eager in inference mode, as the model was trained."""
    pin_openmp(os.environ, threads)
    import torch

    from components.ner.pytorch import load_network

    torch.set_num_threads(threads)
    network = load_network(model, labels)

    def infer(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            output = network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
            logits: npt.NDArray[np.float32] = output.logits.numpy()
        return logits

    return infer

"""A model folder of the trainer as a PyTorch network: safetensors only, no download, no foreign code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from components.kfp_io import StepError


def load_network(folder: Path, labels: Sequence[str]) -> torch.nn.Module:
    """Return the network in evaluation mode, FP32. Raises StepError: not a model, broken, or weights are missing."""
    from safetensors import SafetensorError
    from transformers import AutoModelForTokenClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, loading = AutoModelForTokenClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise StepError(f"{folder}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if absent := sorted(loading["missing_keys"]):
        # transformers would fill them at random, and an export agrees with a random layer just as well.
        raise StepError(f"{folder}: model.safetensors lacks {len(absent)} weights, {absent[0]} among them")
    result: torch.nn.Module = network.eval()
    return result

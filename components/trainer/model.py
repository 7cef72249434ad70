"""The network, loaded from a backbone folder without a download, a pickle or foreign code."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.kfp_io import StepError
from components.trainer.backbone import has_safetensors, read_backbone

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel

# Names of dropout in the configurations of transformers: BERT and RoBERTa and DeBERTa and ELECTRA, then DistilBERT,
# ALBERT, ModernBERT.
_DROPOUT_NAMES = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
    "classifier_dropout_prob",
    "embedding_dropout",
    "mlp_dropout",
)

# These count positions from the padding id on, so the first pad_token_id + 1 of the table are lost to text.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "longformer")


def best_device() -> torch.device:
    """Return the first GPU, if torch was built for one and there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_repeatable(seed: int) -> None:
    """Seed Python, NumPy and torch, forbid operations that differ from run to run, and take the thread count of OpenMP.

    With the same machine, thread count and seed, training gives the same bytes.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # libraries that use the global generator must repeat too
    torch.manual_seed(seed)
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # without it matrix products on a GPU are refused as irregular
    torch.use_deterministic_algorithms(True)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))


def load_tokenizer(backbone: Path) -> Tokenizer:
    """Return the backbone's tokenizer, with neither truncation nor padding. Raises StepError if the file is broken."""
    from tokenizers import Tokenizer

    path = backbone / "tokenizer.json"
    if not path.is_file():
        raise StepError(f"backbone {backbone} has no tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for every fault of the file
        raise StepError(f"tokenizer {path} cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def mask_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token that stands for a hidden one, as BERT and RoBERTa write it; None if there is none."""
    found = [tokenizer.token_to_id(token) for token in ("[MASK]", "<mask>")]
    return next((number for number in found if number is not None), None)


def load_model(
    backbone: Path, labels: Sequence[str], dropout: float, max_tokens: int, layers: int = 0
) -> PreTrainedModel:
    """Return a token classifier with one output for each of `labels`, on the backbone's weights, in float32.

    A random backbone is drawn from the seed in its manifest; the classifier's weights come from torch's generator.
    `layers` keeps the first so many layers, 0 all. Raises StepError for a broken folder, weights that do not fit the
    configuration, windows longer than the backbone can read, and more layers than it has.
    """
    from transformers import AutoConfig, AutoModelForTokenClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    manifest = read_backbone(backbone)
    names = dict(enumerate(labels))
    try:
        config = AutoConfig.from_pretrained(
            backbone,
            local_files_only=True,
            trust_remote_code=False,
            id2label=names,
            label2id={label: index for index, label in names.items()},
        )
    except (OSError, ValueError, KeyError) as error:
        raise StepError(f"backbone {manifest.name}: config.json cannot be used: {error}") from error
    _check_length(config, max_tokens, manifest.name)
    set_dropout(config, dropout)
    if layers:
        keep_layers(config, layers, manifest.name)
    if manifest.seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(manifest.seed)
            return AutoModelForTokenClassification.from_config(config, trust_remote_code=False, dtype=torch.float32)
    if not has_safetensors(backbone):
        raise StepError(f"backbone {manifest.name} has no safetensors weights in {backbone}")
    try:
        model, report = AutoModelForTokenClassification.from_pretrained(
            backbone,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise StepError(f"backbone {manifest.name}: the weights cannot be loaded: {error}") from error
    _check_loaded(model, report, manifest.name)
    return model


def keep_layers(config: PretrainedConfig, layers: int, name: str) -> None:
    """Make `config` that of the first `layers` layers. Raises StepError if there are not as many, or layers differ in kind."""
    most = getattr(config, "num_hidden_layers", None)
    if most is None or getattr(config, "layer_types", None):
        raise StepError(
            f"hyperparameter layers: the layers of backbone {name} ({config.model_type}) cannot be left out"
        )
    if layers > most:
        raise StepError(f"hyperparameter layers is {layers}, but backbone {name} has {most}")
    config.num_hidden_layers = layers


def set_dropout(config: PretrainedConfig, dropout: float) -> list[str]:
    """Set every dropout rate that `config` knows; return their names. Raises StepError if it knows none."""
    found = [name for name in _DROPOUT_NAMES if hasattr(config, name)]
    if not found:
        raise StepError(f"dropout cannot be set on a backbone of type {config.model_type}: its configuration has none")
    for name in found:
        setattr(config, name, dropout)
    return found


def _check_length(config: PretrainedConfig, max_tokens: int, name: str) -> None:
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None or longest <= 0:
        return
    if config.model_type in _OFFSET_POSITIONS:
        longest -= (config.pad_token_id or 0) + 1
    if max_tokens > longest:
        raise StepError(f"training setting max_tokens is {max_tokens}, but backbone {name} reads at most {longest}")


def _check_loaded(model: PreTrainedModel, report: dict[str, Any], name: str) -> None:
    """Refuse weights that leave part of the body random: transformers only warns of it."""
    prefix = model.base_model_prefix + "."
    missing = sorted(key for key in report["missing_keys"] if key.startswith(prefix))
    mismatched = sorted(str(key) for key in report["mismatched_keys"])
    if missing or mismatched:
        first = (missing or mismatched)[0]
        raise StepError(
            f"backbone {name}: {len(missing) + len(mismatched)} tensors of the weights are missing or misshapen, "
            f"the first is {first}",
            hint="config.json and model.safetensors must come from the same model",
        )

"""Documents to batches: overlapping windows, so that no token of a long document is left out of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.kfp_io import StepError
from components.ner.formats import Document, load_split, read_manifest
from components.ner.labels import bio_labels, token_labels
from components.ner.predict import WindowSettings
from components.ner.windows import windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IGNORED = -100
"""Label id of a position that has no label: special tokens and padding. The loss leaves it out."""

_POOL = 16
"""Batches are cut from pools of this many batches sorted by length: little padding, yet well mixed."""


@dataclass(frozen=True)
class TrainingData:
    """The documents to learn from and to choose the best epoch by, and what they are labelled with."""

    train: Sequence[Document]
    validation: Sequence[Document]
    entity_types: Sequence[str]
    content_sha256: str

    @property
    def labels(self) -> list[str]:
        """BIO labels; the index of a label is its class id."""
        return list(bio_labels(self.entity_types))


@dataclass(frozen=True)
class Window:
    """One training example: int64 arrays of one length, special tokens included; `labels` is IGNORED at those."""

    input_ids: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Batch:
    """int64 arrays [windows, tokens of the longest]; padding has attention 0 and label IGNORED."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray


def load_data(folder: Path) -> TrainingData:
    """Read a dataset folder. Raises StepError if it has no training or validation documents or no entity types."""
    manifest = read_manifest(folder)
    splits = {name: load_split(folder, name) for name in ("train", "validation")}
    for name, documents in splits.items():
        if not documents:
            raise StepError(
                f"the {name} split of dataset {folder} is empty",
                hint="give more documents, or a larger validation_fraction to the dataset step",
            )
    if not manifest.entity_types:
        raise StepError(f"dataset {folder} has no entity types: there is nothing to learn")
    return TrainingData(splits["train"], splits["validation"], tuple(manifest.entity_types), manifest.content_sha256)


def window_settings(tokenizer: Tokenizer, max_tokens: int, stride: int, pad_id: int) -> WindowSettings:
    """Return the window settings of `tokenizer`. Raises StepError unless it puts one special token on either side."""
    special = tokenizer.encode("").ids
    if len(special) != 2:
        raise StepError(
            f"the backbone's tokenizer puts {len(special)} special tokens around a text, not two (start, end)"
        )
    return WindowSettings(max_tokens=max_tokens, stride=stride, cls_id=special[0], sep_id=special[1], pad_id=pad_id)


def make_windows(
    documents: Sequence[Document], tokenizer: Tokenizer, labels: Sequence[str], window: WindowSettings
) -> list[Window]:
    """Cut each document into windows of at most `window.max_tokens` that together hold every one of its tokens."""
    label_ids = {label: index for index, label in enumerate(labels)}
    made: list[Window] = []
    for document in documents:
        encoding = tokenizer.encode(document.text, add_special_tokens=False)
        tags = token_labels(encoding.offsets, document.spans, label_ids)
        for start, end in windows(len(encoding.ids), window.max_tokens - 2, window.stride):
            ids = [window.cls_id, *encoding.ids[start:end], window.sep_id]
            marked = [IGNORED, *tags[start:end], IGNORED]
            made.append(Window(np.asarray(ids, dtype=np.int64), np.asarray(marked, dtype=np.int64)))
    if not made:
        raise StepError("no document has any text that the backbone's tokenizer can read")
    return made


def plan_batches(lengths: Sequence[int], batch_size: int, random: np.random.Generator) -> list[list[int]]:
    """Return the indices of each batch of one epoch: every index once, neighbours in length together, order random."""
    order = random.permutation(len(lengths))
    pool = batch_size * _POOL
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        members = sorted(order[start : start + pool].tolist(), key=lambda index: lengths[index])
        batches += [members[at : at + batch_size] for at in range(0, len(members), batch_size)]
    return [batches[index] for index in random.permutation(len(batches))]


def collate(members: Sequence[Window], pad_id: int) -> Batch:
    """Pad `members` to the longest of them."""
    shape = (len(members), max(len(member.input_ids) for member in members))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    for row, member in enumerate(members):
        length = len(member.input_ids)
        input_ids[row, :length] = member.input_ids
        attention_mask[row, :length] = 1
        labels[row, :length] = member.labels
    return Batch(input_ids, attention_mask, labels)

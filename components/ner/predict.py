"""From text to spans with any runtime: tokenise, windows, infer, merge, decode. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from components.ner.formats import Span
from components.ner.labels import decode_bio, decode_logits
from components.ner.windows import merge_logits, windows

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Infer = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""Maps input ids and attention mask, both [batch, tokens], to logits [batch, tokens, labels]."""


@dataclass(frozen=True)
class WindowSettings:
    """How a document is cut. `max_tokens` counts the two special tokens of each window; neighbours share `stride` tokens."""

    max_tokens: int
    stride: int
    cls_id: int
    sep_id: int
    pad_id: int

    @staticmethod
    def from_json(document: dict[str, Any]) -> WindowSettings:
        return WindowSettings(
            **{name: int(document[name]) for name in ("max_tokens", "stride", "cls_id", "sep_id", "pad_id")}
        )


class Tagger:
    """Finds entities in whole documents. `batch` windows at most go through `infer` at once."""

    def __init__(
        self, tokenizer: Tokenizer, labels: Sequence[str], window: WindowSettings, infer: Infer, batch: int = 16
    ) -> None:
        self._tokenizer = tokenizer
        self._labels = list(labels)
        self._window = window
        self._infer = infer
        self._batch = batch

    def tag(self, text: str) -> list[Span]:
        """Return the entities of `text`, in order."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if not encoding.ids:
            return []
        path = decode_logits(self._logits(encoding), self._labels)
        return decode_bio(path, encoding.offsets, self._labels, text)

    def token_logits(self, text: str) -> tuple[list[tuple[int, int]], npt.NDArray[np.float32]]:
        """Return the tokens' character offsets and their logits [tokens, labels], windows merged."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if not encoding.ids:
            return [], np.zeros((0, len(self._labels)), dtype=np.float32)
        return encoding.offsets, self._logits(encoding)

    def _logits(self, encoding: Encoding) -> npt.NDArray[np.float32]:
        cuts = windows(len(encoding.ids), self._window.max_tokens - 2, self._window.stride)
        found: list[npt.NDArray[np.float32]] = []
        for first in range(0, len(cuts), self._batch):
            found.extend(self._run(encoding.ids, cuts[first : first + self._batch]))
        return merge_logits(len(encoding.ids), cuts, found)

    def _run(self, ids: Sequence[int], cuts: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.float32]]:
        longest = max(end - start for start, end in cuts) + 2
        inputs = np.full((len(cuts), longest), self._window.pad_id, dtype=np.int64)
        mask = np.zeros_like(inputs)
        for row, (start, end) in enumerate(cuts):
            length = end - start + 2
            inputs[row, :length] = [self._window.cls_id, *ids[start:end], self._window.sep_id]
            mask[row, :length] = 1
        logits = self._infer(inputs, mask)
        return [logits[row, 1 : 1 + end - start] for row, (start, end) in enumerate(cuts)]

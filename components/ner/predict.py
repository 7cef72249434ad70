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
    """Finds entities in whole documents. `batch` windows at most go through `infer` at once.

    `transitions` [labels before, labels after] are those of a conditional random field, None for a model without one.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        window: WindowSettings,
        infer: Infer,
        batch: int = 16,
        transitions: Sequence[Sequence[float]] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._labels = list(labels)
        self._transitions = None if transitions is None else np.array(transitions, dtype=np.float32)
        self._window = window
        self._infer = infer
        self._batch = batch

    def tag(self, text: str) -> list[Span]:
        """Return the entities of `text`, in order."""
        return self.tag_all([text])[0]

    def tag_all(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the entities of each text, in order; windows of similar length, of whichever texts, go through `infer` together."""
        encodings = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        return [
            self._decode(text, encoding, logits)
            for text, encoding, logits in zip(texts, encodings, self._logits(encodings), strict=True)
        ]

    def tag_with_logits(self, text: str) -> tuple[list[Span], npt.NDArray[np.float32]]:
        """Return the entities of `text` and the logits [tokens, labels] that they were decoded from, windows merged."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        (logits,) = self._logits([encoding])
        return self._decode(text, encoding, logits), logits

    def _decode(self, text: str, encoding: Encoding, logits: npt.NDArray[np.float32]) -> list[Span]:
        # Tokens that stand for no character have no label in training, so they stand between none here.
        seen = np.array([end > start for start, end in encoding.offsets], dtype=bool)
        found = decode_logits(logits[seen], self._labels, self._transitions)
        offsets = [offset for offset in encoding.offsets if offset[1] > offset[0]]
        return decode_bio(found, offsets, self._labels, text)

    def _logits(self, encodings: Sequence[Encoding]) -> list[npt.NDArray[np.float32]]:
        """Return logits [tokens, labels] of each encoding. The longest windows go first, so that little of a batch is padding."""
        cuts = [windows(len(encoding.ids), self._window.max_tokens - 2, self._window.stride) for encoding in encodings]
        rows = [(number, cut) for number, of_text in enumerate(cuts) for cut in of_text]
        rows.sort(key=lambda row: row[1][0] - row[1][1])
        found: dict[tuple[int, tuple[int, int]], npt.NDArray[np.float32]] = {}
        for first in range(0, len(rows), self._batch):
            batch = rows[first : first + self._batch]
            found.update(zip(batch, self._run([encodings[n].ids[start:end] for n, (start, end) in batch]), strict=True))
        return [
            merge_logits(len(encoding.ids), of_text, [found[number, cut] for cut in of_text])
            if of_text
            else np.zeros((0, len(self._labels)), dtype=np.float32)
            for number, (encoding, of_text) in enumerate(zip(encodings, cuts, strict=True))
        ]

    def _run(self, rows: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        longest = max(len(row) for row in rows) + 2
        inputs = np.full((len(rows), longest), self._window.pad_id, dtype=np.int64)
        mask = np.zeros_like(inputs)
        for number, row in enumerate(rows):
            inputs[number, : len(row) + 2] = [self._window.cls_id, *row, self._window.sep_id]
            mask[number, : len(row) + 2] = 1
        logits = self._infer(inputs, mask)
        return [logits[number, 1 : 1 + len(row)] for number, row in enumerate(rows)]

"""The gate: measuring what an export keeps of the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.converter.tolerances import Tolerances
from components.kfp_io import StepError
from components.ner.formats import Document, Span
from components.ner.metrics import Scores, span_scores
from components.ner.predict import Infer, Tagger

SHAPES = ((1, 1), (1, 7), (2, 9), (3, 200), (2, 0))
"""Batch and tokens of the parity grid; 0 stands for the longest window. Every row but the first is padded."""

_SAMPLE = 8
"""Windows to time builds on, at most."""


@dataclass(frozen=True)
class Measured:
    """What one variant kept."""

    logits: float
    agreement: float
    macro_f1: float
    change: float
    """Of macro-F1 against PyTorch; negative is worse."""

    def as_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Reference:
    """The PyTorch model on the validation split."""

    infer: Infer
    labels: tuple[int, ...]
    """The best class of every token, in order."""
    scores: Scores


class Gate:
    """Measures variants against the reference on whole validation documents."""

    def __init__(
        self,
        make: Any,
        documents: Sequence[Document],
        entity_types: Sequence[str],
        infer: Infer,
        vocabulary: int,
        longest: int,
    ) -> None:
        """`make(infer)` gives a Tagger; `longest` is the number of tokens in a full window."""
        self._make = make
        self._documents = documents
        self._types = entity_types
        self._vocabulary = vocabulary
        self._longest = longest
        self.sample: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        """Windows of the validation documents, evenly drawn: what builds are timed on."""
        labels, scores = self._run(self._sampling(infer))
        self.sample = self.sample[:: -(-len(self.sample) // _SAMPLE) or 1]
        self.reference = Reference(infer, labels, scores)

    def measure(self, infer: Infer) -> Measured:
        """Return what a variant kept of the reference."""
        labels, scores = self._run(infer)
        same = sum(a == b for a, b in zip(labels, self.reference.labels, strict=True))
        return Measured(
            logits=max(self._difference(infer, batch, tokens or self._longest) for batch, tokens in SHAPES),
            agreement=same / max(1, len(labels)),
            macro_f1=scores.macro_f1,
            change=scores.macro_f1 - self.reference.scores.macro_f1,
        )

    def _sampling(self, infer: Infer) -> Infer:
        def keep(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            self.sample.append((ids, mask))
            return infer(ids, mask)

        return keep

    def _run(self, infer: Infer) -> tuple[tuple[int, ...], Scores]:
        tagger: Tagger = self._make(infer)
        labels: list[int] = []
        predicted: list[list[Span]] = []
        for document in self._documents:
            spans, logits = tagger.tag_with_logits(document.text)
            labels += [int(label) for label in logits.argmax(axis=1)]
            predicted.append(spans)
        return tuple(labels), span_scores([document.spans for document in self._documents], predicted, self._types)

    def _difference(self, infer: Infer, batch: int, tokens: int) -> float:
        """Return the greatest difference of a logit that stands for a real token."""
        ids, mask = _example(batch, min(tokens, self._longest), self._vocabulary)
        ours, theirs = infer(ids, mask), self.reference.infer(ids, mask)
        if ours.shape != theirs.shape:
            raise StepError(f"exported model gives shape {ours.shape} where PyTorch gives {theirs.shape}")
        return float(np.abs(ours - theirs)[mask == 1].max())


def _example(batch: int, tokens: int, vocabulary: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    random = np.random.default_rng(batch * 1000 + tokens)
    ids = random.integers(0, vocabulary, (batch, tokens), dtype=np.int64)
    mask = np.ones_like(ids)
    for row in range(1, batch):
        mask[row, max(1, tokens - row * 2) :] = 0
    return ids, mask


def misses(variant: str, measured: Measured, allowed: Tolerances) -> str | None:
    """Return why `variant` (fp32 or int8) does not pass, None if it does."""
    if variant == "fp32" and not measured.logits <= allowed.fp32_logits:
        return f"logits differ by up to {measured.logits:.2g}, {allowed.fp32_logits:g} is allowed"
    agreement = allowed.fp32_agreement if variant == "fp32" else allowed.int8_agreement
    change = allowed.fp32_macro_f1 if variant == "fp32" else allowed.int8_macro_f1
    if not measured.agreement >= agreement:
        return f"{measured.agreement:.2%} of the tokens keep their label, {agreement:.2%} must"
    if not abs(measured.change) <= change:
        return f"validation macro-F1 changes by {measured.change:+.4f}, {change:g} is allowed"
    return None

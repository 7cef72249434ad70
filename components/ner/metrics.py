"""Strict span metrics on whole documents, and their bootstrap interval.

A predicted span is right if start, end and label all equal a gold span's. Macro-F1 is the unweighted mean of F1 over the labels
of the training schema that occur in gold or in the predictions: a label that is only predicted counts as 0, a label that
occurs in neither says nothing and is left out. Micro pools all labels. Without any span both are 0.
Checked against seqeval (mode strict, IOB2) on random sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.ner.formats import Span


@dataclass(frozen=True)
class Scores:
    """Fractions between 0 and 1; `per_label` maps a label to precision, recall, f1 and support (gold spans)."""

    macro_f1: float
    micro_f1: float
    micro_precision: float
    micro_recall: float
    per_label: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Documents = Sequence[Sequence[Span]]


def span_scores(gold: Documents, predicted: Documents, entity_types: Sequence[str]) -> Scores:
    """Score predictions, one sequence of spans a document. Raises ValueError if the numbers of documents differ."""
    labels = sorted(entity_types)
    totals = span_counts(gold, predicted, labels).sum(axis=0)
    hits, golds, guesses = totals[:, 0], totals[:, 1], totals[:, 2]
    precision, recall = _divide(hits, guesses), _divide(hits, golds)
    f1 = _divide(2 * hits, golds + guesses)
    per_label = {
        label: {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "support": float(golds[index]),
        }
        for index, label in enumerate(labels)
        if golds[index] or guesses[index]
    }
    return Scores(
        macro_f1=float(macro_f1(totals[None])[0]),
        micro_f1=float(_divide(2 * hits.sum(), golds.sum() + guesses.sum())),
        micro_precision=float(_divide(hits.sum(), guesses.sum())),
        micro_recall=float(_divide(hits.sum(), golds.sum())),
        per_label=per_label,
    )


def bootstrap_interval(
    gold: Documents, predicted: Documents, entity_types: Sequence[str], seed: int = 0, samples: int = 1000
) -> tuple[float, float]:
    """Return the 95 % percentile interval of macro-F1 over documents drawn with replacement, `samples` times."""
    counts = span_counts(gold, predicted, sorted(entity_types))
    documents = len(counts)
    if documents == 0:
        return (0.0, 0.0)
    low, high = np.quantile(bootstrap_macro_f1(counts, seed, samples), [0.025, 0.975])
    return (float(low), float(high))


def bootstrap_macro_f1(counts: npt.NDArray[np.int64], seed: int, samples: int) -> npt.NDArray[np.float64]:
    """Return macro-F1 [samples] over documents drawn with replacement from `span_counts`.

    The draw depends on the seed and the number of documents alone: models scored on the same documents are compared in pairs.
    """
    documents = len(counts)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(documents, np.full(documents, 1 / documents), size=samples)
    return macro_f1((drawn @ counts.reshape(documents, -1)).reshape(samples, *counts.shape[1:]))


def document_counts(
    gold: Documents, predicted: Documents, entity_types: Sequence[str]
) -> dict[str, dict[str, list[int]]]:
    """Return for each label `tp`, `fp` and `fn`, one number a document in their order: what a paired bootstrap draws from."""
    labels = sorted(entity_types)
    hits, golds, guesses = np.moveaxis(span_counts(gold, predicted, labels), 2, 0)
    return {
        label: {
            "tp": hits[:, column].tolist(),
            "fp": (guesses - hits)[:, column].tolist(),
            "fn": (golds - hits)[:, column].tolist(),
        }
        for column, label in enumerate(labels)
    }


def read_document_counts(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> npt.NDArray[np.int64]:
    """Return `span_counts` of what `document_counts` gave. Raises KeyError, ValueError or TypeError for anything else."""
    columns = []
    for _, numbers in sorted(counts.items()):
        hits, wrong, missed = (np.array(numbers[name], dtype=np.int64) for name in ("tp", "fp", "fn"))
        columns.append(np.stack([hits, hits + missed, hits + wrong], axis=1))
    return np.stack(columns, axis=1)


def span_counts(gold: Documents, predicted: Documents, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return [documents, labels, (hits, gold, predicted)], all that any of these scores is made of.

    A span that is given twice counts twice but hits once. Raises ValueError if the numbers of documents differ.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} documents but {len(predicted)} predictions")
    index = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(gold), len(labels), 3), dtype=np.int64)
    for number, (true, guess) in enumerate(zip(gold, predicted, strict=True)):
        right, said = Counter(map(tuple, true)), Counter(map(tuple, guess))
        for column, spans in enumerate((right & said, right, said)):
            for (_, _, label), times in spans.items():
                if label in index:
                    counts[number, index[label], column] += times
    return counts


def macro_f1(totals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return macro-F1 of each of [samples, labels, (hits, gold, predicted)]."""
    hits, golds, guesses = totals[..., 0], totals[..., 1], totals[..., 2]
    present = (golds + guesses) > 0
    f1 = _divide(2 * hits, golds + guesses)
    return _divide((f1 * present).sum(axis=-1), present.sum(axis=-1))


def _divide(numerator: Any, denominator: Any) -> npt.NDArray[np.float64]:
    """Return numerator / denominator, 0 where the denominator is 0."""
    bottom = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, bottom, out=np.zeros(np.broadcast(numerator, bottom).shape), where=bottom > 0)

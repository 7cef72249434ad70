"""From spans to BIO labels of tokens and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.ner.formats import Span

IGNORE = -100
"""Label of a token that stands for no character: it counts in no loss (the convention of PyTorch)."""


def bio_labels(entity_types: Sequence[str]) -> list[str]:
    """Return the label list `O, B-x, I-x, ...` in the order of the sorted types; the index is the class id."""
    return ["O", *(f"{prefix}-{kind}" for kind in sorted(entity_types) for prefix in ("B", "I"))]


def token_labels(offsets: Sequence[tuple[int, int]], spans: Sequence[Span], label_ids: Mapping[str, int]) -> list[int]:
    """Return a class id for each token, given the tokens' character offsets and sorted disjoint spans.

    The first token that touches a span is its B, later ones its I. A token that touches two spans belongs to the first: a
    label has one value. Tokens without characters are IGNORE.
    """
    labels, current, begun = [], 0, -1
    for start, end in offsets:
        if end <= start:
            labels.append(IGNORE)
            continue
        while current < len(spans) and spans[current].end <= start:
            current += 1
        if current == len(spans) or spans[current].start >= end:
            labels.append(label_ids["O"])
            continue
        prefix = "I" if begun == current else "B"
        begun = current
        labels.append(label_ids[f"{prefix}-{spans[current].label}"])
    return labels


def decode_bio(
    label_ids: Sequence[int], offsets: Sequence[tuple[int, int]], labels: Sequence[str], text: str
) -> list[Span]:
    """Return the spans that a sequence of class ids stands for.

    An I that follows O or another type opens a span (`decode_logits` never gives one). Outer white space is trimmed, since
    tokenizers of the RoBERTa kind count the space before a word as part of it.
    """
    found: list[list[int | str]] = []
    open_kind = ""
    for label_id, (start, end) in zip(label_ids, offsets, strict=True):
        label = labels[label_id] if label_id >= 0 else "O"
        if end <= start:
            continue
        prefix, _, kind = label.partition("-")
        if prefix == "I" and kind == open_kind:
            found[-1][1] = end
        elif prefix in ("B", "I"):
            found.append([start, end, kind])
        open_kind = kind if prefix in ("B", "I") else ""
    return [span for start, end, kind in found if (span := _trim(int(start), int(end), str(kind), text)) is not None]


def _trim(start: int, end: int, kind: str, text: str) -> Span | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end, kind) if start < end else None


def decode_logits(
    logits: npt.NDArray[np.float32], labels: Sequence[str], transitions: npt.NDArray[np.float32] | None = None
) -> list[int]:
    """Return the best legal sequence of class ids for `logits` of shape [tokens, labels].

    Viterbi over the one rule of BIO: I-x only after B-x or I-x. This makes strict and lenient scoring the same thing.
    `transitions` [labels before, labels after] are the scores of a conditional random field, which was trained with these logits.
    """
    count = len(logits)
    if count == 0:
        return []
    allowed = legal_transitions(labels)
    greedy = logits.argmax(axis=1)
    if transitions is None and not labels[greedy[0]].startswith("I-") and allowed[greedy[:-1], greedy[1:]].all():
        return [int(label) for label in greedy]  # the best of all sequences is legal, so it is the best legal one
    steps = np.where(allowed, 0.0 if transitions is None else transitions.astype(np.float64), -np.inf)
    best = logits.astype(np.float64)
    best[0, [label.startswith("I-") for label in labels]] = -np.inf
    # A document has hundreds of tokens, so what a token costs is calls of NumPy: rows are cut and space is taken once. What came before
    # a row's best is asked on the way back, of one label.
    rows, columns = list(best), list(best[:, :, np.newaxis])
    candidates, top = np.empty_like(steps), np.empty(len(labels))
    for before, row in zip(columns, rows[1:], strict=False):
        np.add(steps, before, candidates)
        np.maximum.reduce(candidates, 0, None, top)
        np.add(row, top, row)
    path = [int(rows[-1].argmax())]
    into = list(steps.T.copy())
    for row in reversed(rows[:-1]):
        path.append(int(np.add(into[path[-1]], row, top).argmax()))
    return path[::-1]


def legal_transitions(labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return allowed[before, after]: I-x follows B-x and I-x alone."""
    inside = np.array([label.startswith("I-") for label in labels])
    kinds = np.array([label[1:] for label in labels])
    legal: npt.NDArray[np.bool_] = ~inside | (kinds[:, np.newaxis] == kinds)
    return legal

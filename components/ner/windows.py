"""Overlapping windows, so that no document is truncated, however long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def windows(count: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Return half-open windows (start, end) of at most `size` tokens that cover tokens 0 to `count`.

    Neighbours share `stride` tokens. Raises ValueError unless 0 <= stride < size.
    """
    if not 0 <= stride < size:
        raise ValueError(f"windows of {size} tokens cannot share {stride}")
    found, start = [], 0
    while start < count:
        end = min(start + size, count)
        found.append((start, end))
        if end == count:
            break
        start += size - stride
    return found


def merge_logits(
    count: int, spans: Sequence[tuple[int, int]], logits: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Return logits [count, labels]: each token takes those of the window in which it has the most context.

    `logits[i]` has shape [end - start, labels] for `spans[i]`. Context is the distance to the nearer cut edge; the edges of the
    document are no cuts. Of equals the earlier window wins.
    """
    labels = logits[0].shape[-1] if logits else 0
    merged = np.zeros((count, labels), dtype=np.float32)
    best = np.full(count, -1.0)
    for (start, end), values in zip(spans, logits, strict=True):
        position = np.arange(start, end)
        left = np.where(start == 0, np.inf, position - start)
        right = np.where(end == count, np.inf, end - 1 - position)
        context = np.minimum(left, right)
        better = context > best[start:end]
        merged[start:end][better] = values[better]
        best[start:end][better] = context[better]
    return merged

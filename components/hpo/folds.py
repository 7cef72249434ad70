"""Folds of documents for cross-validation, stratified by the entity types in them. Standard library only.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the Stratification of Multi-Label Data"): the documents of the
rarest type are dealt out first, each to the fold that still wants most of that type.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.kfp_io import StepError

if TYPE_CHECKING:
    from components.ner.formats import Document


@dataclass(frozen=True)
class Folds:
    """`members[k]` holds the indices of the documents that fold k scores on; every document is in one fold."""

    members: tuple[tuple[int, ...], ...]
    unstratified: tuple[str, ...]
    """Types in fewer documents than there are folds: some folds have none of them."""

    def train(self, fold: int) -> list[int]:
        """Return the indices of the documents that a training for `fold` learns from."""
        return [index for number, members in enumerate(self.members) if number != fold for index in members]

    def as_json(self, documents: Sequence[Document]) -> dict[str, Any]:
        """Return the folds by the documents' ids, for the record."""
        return {
            "folds": [[documents[index].id for index in members] for members in self.members],
            "types_not_in_every_fold": list(self.unstratified),
        }


def make_folds(documents: Sequence[Document], count: int, seed: int) -> Folds:
    """Deal `documents` out to `count` folds of equal size, give or take one. Raises StepError for fewer documents than folds."""
    if len(documents) < count:
        raise StepError(f"folds is {count}, but there are {len(documents)} documents to learn from and validate by")
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    types = {index: {span.label for span in documents[index].spans} for index in order}
    frequency = Counter(label for found in types.values() for label in found)
    sizes = [len(order) // count + (number < len(order) % count) for number in range(count)]
    members: list[list[int]] = [[] for _ in range(count)]
    has = [Counter[str]() for _ in range(count)]
    left = list(order)
    while left:
        remaining = Counter(label for index in left for label in types[index])
        rarest = min(remaining, key=lambda label: (remaining[label], label)) if remaining else None
        for index in [index for index in left if rarest is None or rarest in types[index]]:
            open_folds = [number for number in range(count) if len(members[number]) < sizes[number]]
            chosen = min(
                open_folds,
                key=lambda number: (has[number][rarest] if rarest else 0, len(members[number]) - sizes[number], number),
            )
            members[chosen].append(index)
            has[chosen].update(types[index])
            left.remove(index)
    unstratified = sorted(label for label, number in frequency.items() if number < count)
    return Folds(tuple(tuple(sorted(found)) for found in members), tuple(unstratified))

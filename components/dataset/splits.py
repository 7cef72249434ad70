"""Which file is which split, and splits made where files are missing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.dataset.readers import SUFFIXES, read_file
from components.kfp_io import StepError
from components.ner.formats import SPLITS, Document

_WORDS = {"train": ("train",), "validation": ("dev", "val"), "test": ("test",)}


@dataclass(frozen=True)
class Source:
    """What was read, and what happened to it."""

    splits: dict[str, list[Document]]
    files: dict[str, str]
    """Split -> where its documents come from."""
    labels: frozenset[str]
    """Those of the training file, the documents that other splits were drawn from it included."""
    ignored: list[str]
    overlaps: int = 0
    duplicates: int = 0


def read_folder(folder: Path, validation_fraction: float, test_fraction: float, seed: int) -> Source:
    """Read a user's folder. Raises StepError naming what is wrong."""
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise StepError(
            f"data folder {folder} {kind}", hint="give a folder with a train file (and dev, test if there are)"
        )
    found, ignored = _assign(folder)
    if "train" not in found:
        there = f"there is {', '.join(ignored[:5])}" if ignored else "the folder is empty"
        raise StepError(
            f"data folder {folder} has no training file",
            hint=f"name one with `train` in it, ending in {', '.join(SUFFIXES)}; {there}",
        )
    read = {split: read_file(path, split) for split, path in found.items()}
    splits = {split: result.documents for split, result in read.items()}
    files = {split: path.name for split, path in found.items()}
    labels = frozenset(span.label for document in splits["train"] for span in document.spans)
    for split, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if split not in splits:
            splits["train"], splits[split] = _cut(splits["train"], split, fraction, seed)
            files[split] = f"{fraction:g} of {files['train']}"
    return Source(splits, files, labels, ignored, sum(result.overlaps for result in read.values()))


def _assign(folder: Path) -> tuple[dict[str, Path], list[str]]:
    found: dict[str, Path] = {}
    ignored = []
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        fits = [split for split, words in _WORDS.items() if any(word in path.stem.lower() for word in words)]
        if not path.is_file() or not name.endswith(SUFFIXES) or not fits:
            ignored.append(path.name)
            continue
        if len(fits) > 1:
            raise StepError(f"{path.name}: could be {' or '.join(fits)}", hint="name it after one split")
        if fits[0] in found:
            raise StepError(f"two files for {fits[0]}: {found[fits[0]].name} and {path.name}", hint="keep one of them")
        found[fits[0]] = path
    return found, ignored


def _cut(
    documents: Sequence[Document], split: str, fraction: float, seed: int
) -> tuple[list[Document], list[Document]]:
    """Take `fraction` of the documents away for `split`, drawn with the seed; order is kept, and the ids: they say where
    in the training file a document stands."""
    if not 0 < fraction < 1:
        raise StepError(f"{split} fraction {fraction:g}: must lie between 0 and 1")
    count = max(1, round(len(documents) * fraction))
    if len(documents) - count < 1:
        raise StepError(f"{len(documents)} training documents are too few to make a {split} split of them")
    taken = set(random.Random(f"{seed}/{split}").sample(range(len(documents)), count))
    rest = [document for index, document in enumerate(documents) if index not in taken]
    moved = [document for index, document in enumerate(documents) if index in taken]
    return rest, moved


def drop_leaks(source: Source) -> Source:
    """Drop documents that stand in two splits from the training side: train gives way to both, validation to test."""
    seen: set[str] = set()
    splits: dict[str, list[Document]] = {}
    dropped = 0
    for split in reversed(SPLITS):
        kept = [document for document in source.splits[split] if document.text not in seen]
        dropped += len(source.splits[split]) - len(kept)
        seen |= {document.text for document in kept}
        splits[split] = kept
    for split in SPLITS:
        if not splits[split]:
            reason = "is empty" if not source.splits[split] else "holds only documents of another split"
            raise StepError(
                f"{source.files[split]}: the {split} split {reason}", hint="every split needs documents of its own"
            )
    return replace(source, splits={split: splits[split] for split in SPLITS}, duplicates=dropped)


def check_labels(source: Source, schema: Sequence[str]) -> list[str]:
    """Return the label set: the given schema, else what the training file has.

    Raises StepError naming file, document and label for one outside of it, and for a split without any entity.
    """
    known = sorted(set(schema)) or sorted(source.labels)
    if not known:
        raise StepError(f"{source.files['train']}: holds no entity at all")
    allowed = set(known)
    for split in SPLITS:
        for document in source.splits[split]:
            for span in document.spans:
                if span.label not in allowed:
                    raise StepError(
                        f"{source.files[split]}: document {document.id}: label {span.label!r} is not in the schema",
                        hint=f"the {'given' if schema else 'training'} schema is {', '.join(known)}",
                    )
    if not any(document.spans for document in source.splits["validation"]):
        raise StepError(
            f"{source.files['validation']}: the validation split holds no entity, so no model could be chosen by it"
        )
    return known

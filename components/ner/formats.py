"""The canonical dataset: documents with spans, a file per split, a manifest.

A dataset folder holds `manifest.json` and `train.jsonl`, `validation.jsonl`, `test.jsonl`; a line is
`{"id": str, "text": str, "spans": [[start, end, label], ...]}` with character offsets, end exclusive, spans sorted and disjoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from components.kfp_io import StepError

SPLITS = ("train", "validation", "test")
SCHEMA_VERSION = 1


class Span(NamedTuple):
    """An entity: characters `start` to `end` (exclusive) of a document's text."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Document:
    """A text and its entities, sorted by start, none overlapping."""

    id: str
    text: str
    spans: tuple[Span, ...]

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "text": self.text, "spans": [list(span) for span in self.spans]}


@dataclass(frozen=True)
class Manifest:
    """What a dataset folder says of itself. `content_sha256` names the documents of all splits and the label set."""

    content_sha256: str
    entity_types: tuple[str, ...]
    splits: dict[str, dict[str, Any]]


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`. Raises StepError if it is missing or of another schema version."""
    path = Path(folder) / "manifest.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StepError(
            f"{folder}: is not a canonical dataset (no manifest.json)", hint="run the dataset step first"
        ) from error
    except ValueError as error:
        raise StepError(f"{path}: is not JSON: {error}") from error
    if document.get("schema_version") != SCHEMA_VERSION:
        raise StepError(f"{path}: schema version {document.get('schema_version')!r}, this step reads {SCHEMA_VERSION}")
    return Manifest(document["content_sha256"], tuple(document["entity_types"]), document["splits"])


def load_split(folder: Path, split: str) -> list[Document]:
    """Return the documents of one split, in order. Raises StepError naming file and line."""
    return read_documents(Path(folder) / f"{split}.jsonl")


def read_documents(path: Path) -> list[Document]:
    """Return the documents of a canonical JSON Lines file. Raises StepError naming file and line."""
    documents = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise StepError(f"{path}: no such file") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            item = json.loads(line)
            spans = tuple(Span(int(start), int(end), str(label)) for start, end, label in item["spans"])
            documents.append(Document(str(item["id"]), str(item["text"]), spans))
        except (ValueError, KeyError, TypeError) as error:
            raise StepError(f"{path}: line {number}: is not a document: {error!r}") from error
    return documents


def write_documents(path: Path, documents: Sequence[Document]) -> None:
    """Write documents as canonical JSON Lines."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for document in documents:
            stream.write(json.dumps(document.as_json(), ensure_ascii=False, separators=(",", ":")) + "\n")

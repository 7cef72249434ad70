"""Reading a user's documents: the JSON list, JSON Lines, CoNLL IOB2. Every error names the file, the place and the value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.kfp_io import StepError
from components.ner.formats import Document, Span

SUFFIXES = (".json", ".jsonl", ".conll", ".iob", ".iob2", ".bio", ".tsv")


@dataclass(frozen=True)
class Read:
    """The documents of one file, and how many overlapping spans gave way to longer ones."""

    documents: list[Document]
    overlaps: int


def read_file(path: Path, split: str) -> Read:
    """Read one file by its suffix. Raises StepError naming file, document and value."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StepError(
            f"{path.name}: is not UTF-8 text (byte {error.start})", hint="save the file as UTF-8"
        ) from error
    except OSError as error:
        raise StepError(f"{path.name}: cannot be read: {error.strerror}") from error
    if not text.strip():
        raise StepError(f"{path.name}: is empty")
    suffix = path.suffix.lower()
    if suffix == ".json":
        pairs = list(_json(path.name, text))
    elif suffix == ".jsonl":
        pairs = list(_json_lines(path.name, text))
    else:
        pairs = list(_conll(path.name, text))
    if not pairs:
        raise StepError(f"{path.name}: holds no documents")
    documents, overlaps = [], 0
    for number, (body, spans) in enumerate(pairs):
        kept, dropped = longest_win(spans)
        overlaps += dropped
        documents.append(Document(f"{split}-{number:05d}", body, kept))
    return Read(documents, overlaps)


def longest_win(spans: list[Span]) -> tuple[tuple[Span, ...], int]:
    """Return disjoint spans sorted by start, and how many gave way: the longest wins, of equals the first."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start, s.label)):
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return tuple(sorted(kept)), len(spans) - len(kept)


Pair = tuple[str, list[Span]]


def _json(name: str, text: str) -> Iterator[Pair]:
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise StepError(f"{name}: line {error.lineno}: is not JSON: {error.msg}") from error
    if not isinstance(items, list):
        raise StepError(f"{name}: expected a list of documents, got {type(items).__name__}")
    for number, item in enumerate(items):
        yield _document(item, f"{name}: document {number}")


def _json_lines(name: str, text: str) -> Iterator[Pair]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                raise StepError(f"{name}: line {number}: is not JSON: {error.msg}") from error
            yield _document(item, f"{name}: line {number}")


def _document(item: Any, place: str) -> Pair:
    """Read `{"text": ..., "annotations": [[start, end, label], ...]}` (`spans` is the canonical name of the same)."""
    if not isinstance(item, dict):
        raise StepError(f"{place}: expected an object with text and annotations, got {type(item).__name__}")
    text = item.get("text")
    if not isinstance(text, str) or not text.strip():
        raise StepError(f"{place}: its text is {'empty' if isinstance(text, str) else repr(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StepError(f"{place}: character {error.start} is a lone surrogate, which is no text") from error
    annotations = item.get("annotations", item.get("spans"))
    if not isinstance(annotations, list):
        raise StepError(f"{place}: has no list of annotations", hint="an empty list says that it holds no entity")
    return text, [_span(annotation, text, place) for annotation in annotations]


def _span(annotation: Any, text: str, place: str) -> Span:
    good = isinstance(annotation, list) and len(annotation) == 3
    if not good or any(isinstance(offset, bool) or not isinstance(offset, int) for offset in annotation[:2]):
        raise StepError(f"{place}: annotation {json.dumps(annotation)} is not [start, end, label] with whole numbers")
    start, end, label = annotation
    if not isinstance(label, str) or not label.strip():
        raise StepError(f"{place}: annotation {json.dumps(annotation)}: its label is not a name")
    if not 0 <= start < end <= len(text):
        raise StepError(
            f"{place}: annotation {json.dumps(annotation)} does not lie in the text of {len(text)} characters",
            hint="offsets count characters from 0; the end is the character after the last",
        )
    if not text[start:end].strip():
        raise StepError(f"{place}: annotation {json.dumps(annotation)} covers white space alone")
    return Span(start, end, label.strip())


def _conll(name: str, text: str) -> Iterator[Pair]:
    """Read IOB2: a token a line, its tag in the last column; an empty line ends a sentence.

    A sentence is a document, or with -DOCSTART- lines the sentences between two of them are.
    """
    lines = text.split("\n")
    by_document = any(line.startswith("-DOCSTART-") for line in lines)
    builder = _Sentences(name)
    for number, line in enumerate(lines, 1):
        if line.startswith("-DOCSTART-"):
            yield from builder.flush()
        elif not line.strip():
            if by_document:
                builder.end_sentence()
            else:
                yield from builder.flush()
        else:
            builder.add(line, number)
    yield from builder.flush()


class _Sentences:
    """Joins tokens with one space (sentences with a line break) and collects the spans."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._text = ""
        self._spans: list[Span] = []
        self._previous = "O"
        self._separator = ""

    def add(self, line: str, number: int) -> None:
        columns = line.split("\t") if "\t" in line else line.split()
        place = f"{self._name}: line {number}"
        if len(columns) < 2 or not columns[0].strip():
            raise StepError(f"{place}: expected a token and its tag, got {line!r}")
        token, tag = columns[0].strip(), columns[-1].strip()
        prefix, _, label = tag.partition("-")
        if tag != "O" and (prefix not in ("B", "I") or not label):
            raise StepError(f"{place}: {tag!r} is not an IOB2 tag", hint="tags are O, B-NAME or I-NAME")
        if prefix == "I" and self._previous[2:] != label:
            raise StepError(f"{place}: {tag!r} follows {self._previous!r}", hint="in IOB2 every entity starts with B-")
        start = len(self._text) + len(self._separator)
        self._text += self._separator + token
        self._separator = " "
        if prefix == "B":
            self._spans.append(Span(start, len(self._text), label))
        elif prefix == "I":
            self._spans[-1] = self._spans[-1]._replace(end=len(self._text))
        self._previous = tag

    def end_sentence(self) -> None:
        self._previous = "O"
        self._separator = "\n" if self._text else ""

    def flush(self) -> Iterator[Pair]:
        if self._text:
            yield self._text, self._spans
        self._text, self._spans, self._previous, self._separator = "", [], "O", ""

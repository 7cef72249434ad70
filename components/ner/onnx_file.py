"""What an ONNX file may be before any runtime opens it: one regular file, self-contained, of known operators.

Reads the protobuf itself, with the standard library: the check must not depend on the parser that it protects, and the image of the
benchmark has no other. Field numbers: onnx/onnx.proto. Weights are skipped, so a large file takes milliseconds.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.kfp_io import StepError, open_plain

MOST_BYTES = 2**31 - 1
"""Of one protobuf message; larger models need external data."""
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Operators of the standard and of onnxruntime itself."""
_DEEPEST = 4
"""Graphs within graphs; the exporters make none."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1


@dataclass(frozen=True)
class _Message:
    """A message, or a string, somewhere in the file."""

    data: mmap.mmap
    start: int
    end: int

    def fields(self) -> Iterator[tuple[int, int | _Message]]:
        """Yield each field's number and its value: an int, or a _Message for what has a length. Raises ValueError if malformed."""
        at = self.start
        while at < self.end:
            key, at = self._varint(at)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, at = self._varint(at)
                yield number, value
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            elif kind == _LENGTH:
                length, at = self._varint(at)
                if length > self.end - at:
                    raise ValueError("a field is longer than the file")
                yield number, _Message(self.data, at, at + length)
                at += length
            else:
                raise ValueError("a field of an unknown kind")
        if at != self.end:
            raise ValueError("a field is longer than its message")

    def messages(self, *numbers: int) -> Iterator[_Message]:
        """Yield the fields of these numbers that have a length."""
        for number, value in self.fields():
            if number in numbers and isinstance(value, _Message):
                yield value

    def text(self) -> str:
        return self.data[self.start : self.end].decode("utf-8")

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= self.end:
                raise ValueError("it ends in the middle of a number")
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ValueError("a number is too long")


def check_onnx(path: Path) -> None:
    """Raise StepError, naming the file and the reason, unless `path` is a model that onnxruntime may open."""
    with open_plain(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if not 0 < size <= MOST_BYTES:
            raise StepError(f"{path}: has {size} bytes, an ONNX file has 1 to {MOST_BYTES}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _check_model(_Message(data, 0, len(data)))
            except (ValueError, UnicodeDecodeError) as error:
                raise StepError(f"{path}: is refused: {error}") from error


def _check_model(model: _Message) -> None:
    graphs = list(model.messages(7))
    if not graphs:
        raise ValueError("it has no graph")
    if any(True for _ in model.messages(20, 25)):
        raise ValueError("it brings functions or training graphs of its own")
    for graph in graphs:
        _check_graph(graph, 1)


def _check_graph(graph: _Message, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"its graphs are nested more than {_DEEPEST} deep")
    for tensor in graph.messages(5):
        _check_tensor(tensor)
    for sparse in graph.messages(15):
        _check_sparse(sparse)
    for node in graph.messages(1):
        for domain in node.messages(7):
            if domain.text() not in DOMAINS:
                raise ValueError(f"it has operators of {domain.text()[:60]!r}, which onnxruntime does not have")
        for attribute in node.messages(5):
            for tensor in attribute.messages(5, 10):
                _check_tensor(tensor)
            for sparse in attribute.messages(22, 23):
                _check_sparse(sparse)
            for inner in attribute.messages(6, 11):
                _check_graph(inner, depth + 1)


def _check_sparse(sparse: _Message) -> None:
    for tensor in sparse.messages(1, 2):
        _check_tensor(tensor)


def _check_tensor(tensor: _Message) -> None:
    for number, value in tensor.fields():
        if number == 13 or (number == 14 and value == _EXTERNAL):
            raise ValueError("its weights are in another file (external data)")

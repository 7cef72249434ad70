"""Reading an IR document: YAML to plain values, with errors that name the file and the place."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.bounded import read_yaml
from intermodal.errors import BadInput


def plain(value: Any) -> Any:
    """Return `value` with every whole-number float made an int, at any depth.

    The SDK writes numbers through protobuf's Struct, which knows only doubles: 5 comes back as 5.0. The KFP backend prints
    whole doubles without a fraction (Go protojson), so that is what a number means here too.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_documents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (PipelineSpec, PlatformSpec) of the YAML or JSON file `path` as plain values; the second may be empty.

    Raises BadInput if the file cannot be read or is not an IR document.
    """
    documents = [
        document.get("pipelineSpec", document) if isinstance(document, dict) else document
        for document in read_yaml(path)
    ]
    spec = next((d for d in documents if isinstance(d, dict) and ("root" in d or "pipelineInfo" in d)), None)
    if spec is None:
        raise BadInput(
            f"{path}: holds no pipeline",
            hint="expected a compiled KFP v2 pipeline (IR YAML with `root` and `pipelineInfo`)",
        )
    platform = next((d for d in documents if isinstance(d, dict) and "platforms" in d), {})
    return plain(spec), plain(platform)


@dataclass(frozen=True)
class Node:
    """A place in the document: a value and the path that leads to it, so that every error can say where."""

    value: Any
    path: str

    def mapping(self, key: str) -> Node:
        """Return the object at `key`, empty if absent. Raises BadInput if it is something else."""
        child = self.value.get(key)
        if child is None:
            child = {}
        if not isinstance(child, Mapping):
            raise BadInput(f"{self.path}.{key}: expected an object, got {type(child).__name__}")
        return Node(child, f"{self.path}.{key}")

    def items(self) -> list[tuple[str, Node]]:
        """Return the entries of an object of objects."""
        result = []
        for key, child in self.value.items():
            if not isinstance(child, Mapping):
                raise BadInput(f"{self.path}.{key}: expected an object, got {type(child).__name__}")
            result.append((str(key), Node(child, f"{self.path}.{key}")))
        return result

    def nodes(self, key: str) -> list[Node]:
        """Return the objects of the list at `key`, empty if absent."""
        child = self.value.get(key) or []
        if not isinstance(child, Sequence) or isinstance(child, str):
            raise BadInput(f"{self.path}.{key}: expected a list, got {type(child).__name__}")
        for index, item in enumerate(child):
            if not isinstance(item, Mapping):
                raise BadInput(f"{self.path}.{key}[{index}]: expected an object, got {type(item).__name__}")
        return [Node(item, f"{self.path}.{key}[{index}]") for index, item in enumerate(child)]

    def text(self, key: str, default: str | None = None) -> str:
        """Return the string at `key`. Raises BadInput if it is absent (and no default is given) or no string."""
        child = self.value.get(key, default)
        if not isinstance(child, str):
            raise BadInput(f"{self.path}.{key}: expected a string, got {child!r}")
        return child

    def texts(self, key: str) -> tuple[str, ...]:
        child = self.value.get(key) or []
        if not isinstance(child, list) or not all(isinstance(item, str) for item in child):
            raise BadInput(f"{self.path}.{key}: expected a list of strings")
        return tuple(child)

    def number(self, key: str, default: float) -> float:
        child = self.value.get(key, default)
        try:
            number = float(child)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadInput(f"{self.path}.{key}: expected a number, got {child!r}") from error
        if not math.isfinite(number):
            raise BadInput(f"{self.path}.{key}: expected a number, got {child!r}")
        return number

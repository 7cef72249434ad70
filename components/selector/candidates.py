"""The candidates, as the benchmarker measured them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.kfp_io import StepError
from components.ner.metrics import macro_f1, read_document_counts

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Candidate:
    """A pair of backbone and variant, as measured. Latencies in milliseconds, None where the sample cannot carry them."""

    backbone: str
    variant: str
    sha256: str
    """Of the model file that was measured."""
    bytes: int
    hyperparameters: Mapping[str, Any]
    latency_ms: Mapping[str, float | None]
    throughput: Mapping[str, float]
    validation_macro_f1: float
    test_macro_f1: float
    test_interval: tuple[float, float]
    counts: npt.NDArray[np.int64] = field(compare=False, repr=False)
    """[validation documents, labels, (hits, gold, predicted)]."""

    @property
    def name(self) -> str:
        return f"{self.backbone} {self.variant}"


def read_candidates(path: Path) -> list[Candidate]:
    """Read the benchmark. Raises StepError if it is not one, is empty, or its candidates were not scored on the same documents."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise StepError(f"{path}: schema version {document['schema_version']!r}, this step reads {SCHEMA_VERSION}")
        candidates = [_candidate(item) for item in document["candidates"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepError(f"{path}: is not a benchmark: {error!r}") from error
    if not candidates:
        raise StepError(f"{path}: holds no candidate")
    for candidate in candidates:
        _check(candidate, candidates[0])
    return candidates


def read_noise(path: Path) -> list[str]:
    """Return why the benchmark calls its times inconclusive; an empty list if it does not, or has no guard."""
    noise = json.loads(path.read_text(encoding="utf-8")).get("noise", {})
    return [str(reason) for reason in noise.get("why", [])]


def _candidate(item: Mapping[str, Any]) -> Candidate:
    validation, test = item["scores"]["validation"], item["scores"]["test"]
    return Candidate(
        backbone=item["backbone"],
        variant=item["variant"],
        sha256=item["bundle_sha256"],
        bytes=int(item["bytes"]),
        hyperparameters=item["hyperparameters"],
        latency_ms=item["latency_ms"],
        throughput=item["throughput"],
        validation_macro_f1=float(validation["macro_f1"]),
        test_macro_f1=float(test["macro_f1"]),
        test_interval=(float(test["interval"][0]), float(test["interval"][1])),
        counts=read_document_counts(validation["documents"]),
    )


def _check(candidate: Candidate, first: Candidate) -> None:
    """Raise StepError unless the counts are those of the score, and of the very documents of the first candidate."""
    if not np.array_equal(candidate.counts[:, :, 1], first.counts[:, :, 1]):  # the gold spans of each document
        raise StepError(f"{candidate.name} and {first.name} were not scored on the same validation documents")
    counted = float(macro_f1(candidate.counts.sum(axis=0)[None])[0])
    if not math.isclose(counted, candidate.validation_macro_f1, abs_tol=1e-9):
        raise StepError(
            f"{candidate.name}: its validation macro-F1 is {candidate.validation_macro_f1:.4f}, but its counts make {counted:.4f}"
        )

"""The benchmark and the baseline together: what is how many times faster than what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.benchmarker.bundle import SCHEMA_VERSION
from components.benchmarker.noise import apart, compare
from components.benchmarker.settings import Settings
from components.kfp_io import StepError

_SAME = ("rounds", "requests", "baseline_requests", "warmup", "seed")
"""Settings that must be the same in both, for rounds to be pairs on the same documents."""


def read_baseline(path: Path, settings: Settings) -> dict[str, Any]:
    """Return what step baseline wrote. Raises StepError if it is not that, or was measured by other settings."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise StepError(f"{path}: schema version {document['schema_version']!r}, this step reads {SCHEMA_VERSION}")
        for entry in document["candidates"]:
            _samples(entry)
        theirs = [document["settings"][name] for name in _SAME]
        document["noise"]["yardstick_ms"], document["noise"]["resolution"], document["machine"]["threads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepError(f"{path}: is not a baseline: {error!r}") from error
    for name, value in zip(_SAME, theirs, strict=True):
        if value != getattr(settings, name):
            raise StepError(
                f"{path}: its {name} is {value}, here it is {getattr(settings, name)}", hint="measure both alike"
            )
    return document


def join(document: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the benchmark with `baseline` (the entries of PyTorch, [] without one) and `comparisons`: each candidate against PyTorch
    of the same backbone, and against the fastest candidate."""
    entries: Sequence[Mapping[str, Any]] = document["candidates"]
    resolution, limit = document["noise"]["resolution"], document["noise"]["limit"]
    comparisons = []
    fastest = min(entries, key=lambda entry: float(entry["latency_ms"]["mean"]))
    for entry in entries:
        if entry is not fastest:
            comparisons.append(compare(_name(entry), _samples(entry), _name(fastest), _samples(fastest), resolution))
    if baseline is None:
        return {**document, "baseline": [], "baseline_noise": None, "comparisons": comparisons}
    why = _unfit(document, baseline) or apart(document["noise"], baseline["noise"], limit)
    resolution = max(resolution, baseline["noise"]["resolution"])
    peers = {entry["backbone"]: entry for entry in baseline["candidates"]}
    for entry in entries:
        if peer := peers.get(entry["backbone"]):
            found = compare(_name(entry), _samples(entry), _name(peer), _samples(peer), resolution)
            found["change_of_macro_f1"] = _f1(entry) - _f1(peer)
            comparisons.append({**found, "verdict": "inconclusive", "why": why} if why else found)
    return {
        **document,
        "baseline": baseline["candidates"],
        "baseline_noise": {**baseline["noise"], "machine": baseline["machine"]},
        "comparisons": comparisons,
    }


def _unfit(document: Mapping[str, Any], baseline: Mapping[str, Any]) -> str | None:
    if document["machine"]["threads"] != baseline["machine"]["threads"]:
        return f"the baseline had {baseline['machine']['threads']} threads, here are {document['machine']['threads']}"
    return None


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['backbone']} {entry['variant']}"


def _samples(entry: Mapping[str, Any]) -> list[list[float]]:
    return [turn["ms"] for turn in entry["turns"]]


def _f1(entry: Mapping[str, Any]) -> float:
    return float(entry["scores"]["test"]["macro_f1"])

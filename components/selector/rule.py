"""The rule: of the candidates that are accurate enough on validation and within the latency budget, the fastest.

Absolute numbers only: adding a candidate that is worse and slower never changes who wins, and a small gain in accuracy is never
traded against time by a weight that nobody can explain. Test scores are shown and used for nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.kfp_io import StepError

SCHEMA_VERSION = 1
_ROUNDING = 1e-9
"""Of subtracting scores as binary fractions: 0.52 - 0.05 must not lose a candidate at 0.47."""


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

    @property
    def name(self) -> str:
        return f"{self.backbone} {self.variant}"


@dataclass(frozen=True)
class Rule:
    """`tolerance` is absolute macro-F1; `latency_budget_ms` 0 means none; `percentile` says which latency counts."""

    tolerance: float
    latency_budget_ms: float = 0.0
    percentile: str = "p50"

    def latency(self, candidate: Candidate) -> float:
        value = candidate.latency_ms.get(self.percentile)
        if value is None:
            raise StepError(
                f"{candidate.name}: too few requests for {self.percentile}",
                hint="raise rounds or requests of the benchmark",
            )
        return value


@dataclass(frozen=True)
class Choice:
    """The champion, why, and one reason for each of the others. `candidates` are all, fastest first."""

    champion: Candidate
    why: str
    lost: tuple[tuple[Candidate, str], ...]
    candidates: tuple[Candidate, ...]


def read_candidates(path: Path) -> list[Candidate]:
    """Read the benchmark. Raises StepError if it is not one, or is empty."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise StepError(f"{path}: schema version {document['schema_version']!r}, this step reads {SCHEMA_VERSION}")
        candidates = [_candidate(item) for item in document["candidates"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepError(f"{path}: is not a benchmark: {error!r}") from error
    if not candidates:
        raise StepError(f"{path}: holds no candidate")
    return candidates


def _candidate(item: Mapping[str, Any]) -> Candidate:
    test = item["scores"]["test"]
    return Candidate(
        backbone=item["backbone"],
        variant=item["variant"],
        sha256=item["bundle_sha256"],
        bytes=int(item["bytes"]),
        hyperparameters=item["hyperparameters"],
        latency_ms=item["latency_ms"],
        throughput=item["throughput"],
        validation_macro_f1=float(item["scores"]["validation"]["macro_f1"]),
        test_macro_f1=float(test["macro_f1"]),
        test_interval=(float(test["interval"][0]), float(test["interval"][1])),
    )


def select(candidates: Sequence[Candidate], rule: Rule) -> Choice:
    """Apply the rule. Raises StepError if nobody is within the budget.

    Ties go to the higher validation score, then the smaller file, then the name.
    """
    for name, value in (("tolerance", rule.tolerance), ("latency budget", rule.latency_budget_ms)):
        if not (math.isfinite(value) and value >= 0):
            raise StepError(f"{name} {value:g}: must be a number of at least 0")
    for candidate in candidates:
        if not (math.isfinite(candidate.validation_macro_f1) and math.isfinite(rule.latency(candidate))):
            raise StepError(f"{candidate.name}: its validation macro-F1 or its latency is not a finite number")
    ordered = sorted(candidates, key=lambda c: (rule.latency(c), -c.validation_macro_f1, c.bytes, c.name))
    best = max(candidate.validation_macro_f1 for candidate in ordered)
    accurate = [candidate for candidate in ordered if _accurate(candidate, best, rule)]
    fitting = [candidate for candidate in accurate if not _too_slow(candidate, rule)]
    if not fitting:
        fastest = accurate[0]
        raise StepError(
            f"no candidate that is accurate enough is within {rule.latency_budget_ms:g} ms: the fastest, {fastest.name}, "
            f"takes {rule.latency(fastest):.1f} ms at {rule.percentile}",
            hint="raise the latency budget or the tolerance, or try a smaller backbone",
        )
    champion = fitting[0]
    why = (
        f"fastest at {rule.percentile} ({rule.latency(champion):.1f} ms) of {len(fitting)} within {rule.tolerance:g} "
        f"of the best validation macro-F1 ({champion.validation_macro_f1:.4f} against {best:.4f})"
    )
    lost = tuple(
        (candidate, _reason(candidate, champion, best, rule)) for candidate in ordered if candidate is not champion
    )
    return Choice(champion, why, lost, tuple(ordered))


def _accurate(candidate: Candidate, best: float, rule: Rule) -> bool:
    return best - candidate.validation_macro_f1 <= rule.tolerance + _ROUNDING


def _too_slow(candidate: Candidate, rule: Rule) -> bool:
    return rule.latency_budget_ms > 0 and rule.latency(candidate) > rule.latency_budget_ms


def _reason(candidate: Candidate, champion: Candidate, best: float, rule: Rule) -> str:
    if not _accurate(candidate, best, rule):
        behind = best - candidate.validation_macro_f1
        return f"validation macro-F1 {candidate.validation_macro_f1:.4f} is {behind:.4f} below the best; {rule.tolerance:g} is allowed"
    latency = rule.latency(candidate)
    if _too_slow(candidate, rule):
        return f"{latency:.1f} ms at {rule.percentile} is over the budget of {rule.latency_budget_ms:g} ms"
    if latency > rule.latency(champion):
        return (
            f"accurate enough, but {latency:.1f} ms at {rule.percentile} is slower than {rule.latency(champion):.1f} ms"
        )
    return "as fast as the champion, and lost the tie by validation score, then size, then name"

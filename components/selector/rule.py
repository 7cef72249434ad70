"""The rule: of the candidates within the latency budget, those that are accurate enough on validation; of these, the fastest.

Absolute numbers only, and the budget comes first, so that irrelevant candidates change nothing: one that is over the budget can
never be chosen and sets no standard for the others; one that another beats both in accuracy and in time is neither the best nor
the fastest of anything. The choice depends on the Pareto front within the budget alone. A small gain in accuracy is never
traded against time by a weight that nobody can explain. Test scores are shown and used for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.kfp_io import StepError
from components.selector.candidates import Candidate

_ROUNDING = 1e-9
"""Of subtracting scores as binary fractions: 0.52 - 0.05 must not lose a candidate at 0.47."""


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

    def fits(self, candidate: Candidate) -> bool:
        """Return whether `candidate` is within the latency budget."""
        return self.latency_budget_ms == 0 or self.latency(candidate) <= self.latency_budget_ms

    def accurate(self, score: float, best: float) -> bool:
        """Return whether a validation score is within the tolerance of the best."""
        return best - score <= self.tolerance + _ROUNDING


@dataclass(frozen=True)
class Choice:
    """The champion, why, and one reason for each of the others. `candidates` are all, fastest first.

    `best` is the highest validation macro-F1 within the budget; `front` are the candidates within it that no other beats both in
    accuracy and in time.
    """

    champion: Candidate
    why: str
    lost: tuple[tuple[Candidate, str], ...]
    candidates: tuple[Candidate, ...]
    best: float
    front: tuple[Candidate, ...]


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
    scores = {candidate.name: candidate.validation_macro_f1 for candidate in candidates}
    ordered = sorted(candidates, key=lambda c: _rank(c, scores[c.name], rule))
    fitting = [candidate for candidate in ordered if rule.fits(candidate)]
    if not fitting:
        fastest = ordered[0]
        raise StepError(
            f"no candidate is within {rule.latency_budget_ms:g} ms: the fastest, {fastest.name}, "
            f"takes {rule.latency(fastest):.1f} ms at {rule.percentile}",
            hint="raise the latency budget, or try a smaller backbone",
        )
    champion = pick(fitting, [candidate.validation_macro_f1 for candidate in fitting], rule)
    best = max(candidate.validation_macro_f1 for candidate in fitting)
    among = sum(rule.accurate(candidate.validation_macro_f1, best) for candidate in fitting)
    budget = f" and {rule.latency_budget_ms:g} ms" if rule.latency_budget_ms else ""
    why = (
        f"fastest at {rule.percentile} ({rule.latency(champion):.1f} ms) of {among} within {rule.tolerance:g} "
        f"of the best validation macro-F1{budget} ({champion.validation_macro_f1:.4f} against {best:.4f})"
    )
    lost = tuple((other, _reason(other, champion, best, rule)) for other in ordered if other is not champion)
    return Choice(champion, why, lost, tuple(ordered), best, _front(fitting))


def pick(fitting: Sequence[Candidate], scores: Sequence[float], rule: Rule) -> Candidate:
    """Return the fastest of `fitting`, which are within the budget, that is accurate enough by `scores`, one for each."""
    best = max(scores)
    accurate = [pair for pair in zip(fitting, scores, strict=True) if rule.accurate(pair[1], best)]
    return min(accurate, key=lambda pair: _rank(pair[0], pair[1], rule))[0]


def _rank(candidate: Candidate, score: float, rule: Rule) -> tuple[float, float, int, str]:
    return (rule.latency(candidate), -score, candidate.bytes, candidate.name)


def _front(ordered: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return those that are better than every faster one. `ordered` is fastest first, of equals the better first."""
    front: list[Candidate] = []
    for candidate in ordered:
        if not front or candidate.validation_macro_f1 > front[-1].validation_macro_f1:
            front.append(candidate)
    return tuple(front)


def _reason(candidate: Candidate, champion: Candidate, best: float, rule: Rule) -> str:
    latency, score = rule.latency(candidate), candidate.validation_macro_f1
    if not rule.fits(candidate):
        better = f", though its validation macro-F1 of {score:.4f} is above {best:.4f}" if score > best else ""
        return f"{latency:.1f} ms at {rule.percentile} is over the budget of {rule.latency_budget_ms:g} ms{better}"
    if not rule.accurate(score, best):
        return f"validation macro-F1 {score:.4f} is {best - score:.4f} below the best; {rule.tolerance:g} is allowed"
    if latency > rule.latency(champion):
        least = rule.latency(champion)
        digits = next((count for count in (1, 3) if f"{latency:.{count}f}" != f"{least:.{count}f}"), 6)
        return f"accurate enough, but {latency:.{digits}f} ms at {rule.percentile} is slower than {least:.{digits}f} ms"
    return "as fast as the champion, and lost the tie by validation score, then size, then name"

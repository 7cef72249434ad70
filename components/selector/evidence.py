"""How firm the choice is: the same validation documents drawn again and again, each time for all candidates alike.

A paired bootstrap over documents, which are the units that were sampled: two candidates mostly fail on the same hard documents, so
their difference is known far better than either score. It is shown beside the choice and does not make it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.ner.metrics import bootstrap_macro_f1
from components.selector.rule import Choice, Rule, pick

SAMPLES = 2000
SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """Validation macro-F1 of a candidate less the champion's, with the interval that holds it with CONFIDENCE."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `even`: the documents do not tell."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "even"


@dataclass(frozen=True)
class Evidence:
    """By candidate's name: its score's interval, its difference from the champion, and how often the rule would choose it."""

    documents: int
    intervals: dict[str, tuple[float, float]]
    differences: dict[str, Difference]
    chosen: dict[str, float]
    noise: tuple[str, ...] = ()
    """Why the benchmark's own guard calls its times inconclusive; empty if it does not."""


def weigh(choice: Choice, rule: Rule, noise: Sequence[str] = ()) -> Evidence:
    """Draw the validation documents SAMPLES times, apply the rule to each draw, and say what came of it."""
    drawn = {candidate.name: bootstrap_macro_f1(candidate.counts, SEED, SAMPLES) for candidate in choice.candidates}
    champion = choice.champion
    differences = {}
    for candidate in choice.candidates:
        if candidate is not champion:
            low, high = _interval(drawn[candidate.name] - drawn[champion.name])
            value = candidate.validation_macro_f1 - champion.validation_macro_f1
            differences[candidate.name] = Difference(value, low, high)
    fitting = [candidate for candidate in choice.candidates if rule.fits(candidate)]
    scores = np.stack([drawn[candidate.name] for candidate in fitting], axis=1)
    wins = Counter(pick(fitting, row, rule).name for row in scores.tolist())
    return Evidence(
        documents=len(champion.counts),
        intervals={name: _interval(values) for name, values in drawn.items()},
        differences=differences,
        chosen={candidate.name: wins[candidate.name] / SAMPLES for candidate in choice.candidates},
        noise=tuple(noise),
    )


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return (float(low), float(high))


def firmness(choice: Choice, evidence: Evidence) -> str:
    """Return in one sentence how firm the choice is."""
    share = evidence.chosen[choice.champion.name]
    rivals = [name for name, difference in evidence.differences.items() if difference.verdict == "better"]
    above = (
        f"; on these documents {' and '.join(rivals)} {'is' if len(rivals) == 1 else 'are'} really better"
        if rivals
        else ""
    )
    noise = f" The times are inconclusive: {'; '.join(evidence.noise)}." if evidence.noise else ""
    return f"The rule chooses it in {share:.0%} of {SAMPLES} draws of the {evidence.documents} validation documents{above}.{noise}"

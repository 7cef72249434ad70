"""Accuracy against time as one inline SVG, with what the rule draws through it: the budget, the tolerance, the Pareto front."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.selector.candidates import Candidate
from components.selector.evidence import Evidence
from components.selector.rule import Choice, Rule

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 20, 55
_ROW = 15
"""Pixels between two labels at least."""


@dataclass(frozen=True)
class _Axis:
    """A linear scale from `low`..`high` to pixels `start`..`end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round values on the axis, four to ten of them."""
        raw = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def picture(choice: Choice, evidence: Evidence, rule: Rule) -> str:
    """Return the SVG. Every candidate is a point with its 95 % interval; it stands at the latency that the rule counts."""
    x, y = _axes(choice, evidence, rule)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="pareto-title" class="pareto">',
        f'<title id="pareto-title">Validation macro-F1 against latency; chosen: {html.escape(choice.champion.name)}</title>',
        *_frame(x, y, rule),
        *_lines(choice, rule, x, y),
    ]
    for candidate, label_y in zip(choice.candidates, _label_rows(choice.candidates, y), strict=True):
        parts += _point(candidate, choice, evidence, rule, (x, y), label_y)
    return "\n".join([*parts, "</svg>"])


def _axes(choice: Choice, evidence: Evidence, rule: Rule) -> tuple[_Axis, _Axis]:
    slowest = max([rule.latency_budget_ms, *(rule.latency(candidate) for candidate in choice.candidates)])
    bounds = [value for interval in evidence.intervals.values() for value in interval]
    bounds += [choice.best - rule.tolerance, *(candidate.validation_macro_f1 for candidate in choice.candidates)]
    low, high = max(0.0, min(bounds)), min(1.0, max(bounds))
    margin = max(0.01, (high - low) * 0.08)
    x = _Axis(0.0, slowest * 1.08 or 1.0, _LEFT, _WIDTH - _RIGHT)
    return x, _Axis(low - margin, high + margin, _HEIGHT - _BOTTOM, _TOP)


def _frame(x: _Axis, y: _Axis, rule: Rule) -> list[str]:
    parts = [f'<path class="axis" d="M{x.start} {y.end}V{y.start}H{x.end}"/>']
    for value in x.ticks():
        parts.append(f'<text class="tick" x="{x.at(value)}" y="{y.start + 18}" text-anchor="middle">{value:g}</text>')
    for value in y.ticks():
        parts.append(f'<path class="grid" d="M{x.start} {y.at(value)}H{x.end}"/>')
        parts.append(f'<text class="tick" x="{x.start - 8}" y="{y.at(value) + 4}" text-anchor="end">{value:.3g}</text>')
    middle = (y.start + y.end) / 2
    parts.append(
        f'<text x="{(x.start + x.end) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{rule.percentile} latency, milliseconds</text>'
    )
    parts.append(
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">validation macro-F1, 95 %</text>'
    )
    return parts


def _lines(choice: Choice, rule: Rule, x: _Axis, y: _Axis) -> list[str]:
    threshold = y.at(choice.best - rule.tolerance)
    parts = [
        f'<path class="rule" d="M{x.start} {threshold}H{x.end}"/>',
        f'<text class="note" x="{x.start + 6}" y="{threshold - 5}">best − tolerance</text>',
    ]
    if rule.latency_budget_ms:
        budget = x.at(rule.latency_budget_ms)
        parts.append(f'<path class="rule" d="M{budget} {y.end}V{y.start}"/>')
        parts.append(f'<text class="note" x="{budget + 5}" y="{y.end + 10}">budget</text>')
    first, *rest = choice.front
    steps = f"M{x.at(rule.latency(first))} {y.at(first.validation_macro_f1)}"
    steps += "".join(f"H{x.at(rule.latency(one))}V{y.at(one.validation_macro_f1)}" for one in rest)
    return [*parts, f'<path class="front" d="{steps}"/>']


def _label_rows(candidates: Sequence[Candidate], y: _Axis) -> list[float]:
    """Return where each label stands, moved down where another is too near."""
    rows: dict[int, float] = {}
    last = -math.inf
    for index in sorted(range(len(candidates)), key=lambda i: y.at(candidates[i].validation_macro_f1)):
        last = max(y.at(candidates[index].validation_macro_f1), last + _ROW)
        rows[index] = last
    return [rows[index] for index in range(len(candidates))]


def _point(
    candidate: Candidate, choice: Choice, evidence: Evidence, rule: Rule, axes: tuple[_Axis, _Axis], label_y: float
) -> list[str]:
    x, y = axes
    across, up = x.at(rule.latency(candidate)), y.at(candidate.validation_macro_f1)
    low, high = evidence.intervals[candidate.name]
    kind = "champion" if candidate is choice.champion else "front" if candidate in choice.front else "other"
    star = "★ " if kind == "champion" else ""
    name = html.escape(candidate.name)
    return [
        f'<g class="{kind}"><title>{name}: {candidate.validation_macro_f1:.4f} [{low:.3f}, {high:.3f}], '
        f"{rule.latency(candidate):.1f} ms</title>",
        f'<path class="bar" d="M{across} {y.at(low)}V{y.at(high)}"/>',
        f'<circle cx="{across}" cy="{up}" r="{6 if kind == "champion" else 4}"/>',
        f'<text x="{across + 10}" y="{label_y + 4}">{star}{name}</text></g>',
    ]

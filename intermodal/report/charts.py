"""KFP's classification metrics drawn: a confusion matrix as a coloured table, a ROC curve as SVG.

The metadata is what a step wrote: what does not have the SDK's form (`ClassificationMetrics` in kfp.dsl) is not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from intermodal.report.markup import Markup, join, tag
from intermodal.report.words import clip, number

_MOST_CATEGORIES = 60
_MOST_POINTS = 400
_SIDE = 240


@dataclass(frozen=True)
class Confusion:
    """Counts by true category (row) and predicted one (column)."""

    categories: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Roc:
    """Points (false positive rate, true positive rate, threshold), by rising false positive rate."""

    points: tuple[tuple[float, float, float], ...]

    @property
    def area(self) -> float:
        """Area under the curve, by trapezoids, from (0, 0) to (1, 1)."""
        line = [(0.0, 0.0), *((x, y) for x, y, _ in self.points), (1.0, 1.0)]
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(line))


def read_confusion(metadata: Mapping[str, Any]) -> Confusion | None:
    """Return the confusion matrix of an artifact's metadata, None if it holds none of a form that can be drawn."""
    matrix = _unwrapped(metadata.get("confusionMatrix"))
    if not isinstance(matrix, Mapping):
        return None
    names = [item.get("displayName") for item in _mappings(matrix.get("annotationSpecs"))]
    rows = [item.get("row") for item in _mappings(matrix.get("rows"))]
    square = all(isinstance(row, list) and len(row) == len(names) and all(map(_is_number, row)) for row in rows)
    if not names or len(rows) != len(names) or not square or len(names) > _MOST_CATEGORIES:
        return None
    return Confusion(tuple(map(str, names)), tuple(tuple(map(float, row)) for row in rows if isinstance(row, list)))


def read_roc(metadata: Mapping[str, Any]) -> Roc | None:
    """Return the ROC curve of an artifact's metadata, None if it holds none of a form that can be drawn."""
    points = []
    for item in _mappings(_unwrapped(metadata.get("confidenceMetrics"))):
        values = [item.get(key) for key in ("falsePositiveRate", "recall", "confidenceThreshold")]
        if not all(map(_is_number, values[:2])):
            return None
        x, y, threshold = values
        points.append((float(x), float(y), float(threshold) if _is_number(threshold) else math.nan))  # type: ignore[arg-type]
    return Roc(tuple(sorted(points, key=lambda point: point[:2]))) if points else None


def _unwrapped(value: Any) -> Any:
    """Older SDKs wrap what is no scalar in a field."""
    if isinstance(value, Mapping) and len(value) == 1:
        return next((value[key] for key in ("struct", "list") if key in value), value)
    return value


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def draw_confusion(confusion: Confusion) -> Markup:
    """Return a table, each cell as strong as its share of its row: the diagonal is recall."""
    head = tag("tr", tag("th", tag("span", "true ↓ predicted →")), [_head(name) for name in confusion.categories])
    body = [
        tag("tr", _head(name), [_cell(value, sum(row), index == place) for place, value in enumerate(row)])
        for index, (name, row) in enumerate(zip(confusion.categories, confusion.rows, strict=True))
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="confusion"), class_="scroll")


def _head(name: str) -> Markup:
    return tag("th", clip(name, 18), title=name)


def _cell(value: float, total: float, right: bool) -> Markup:
    share = value / total if total > 0 and value > 0 else 0.0
    strength = f"--share:{min(share, 1.0):.3f}"
    return tag(
        "td", number(value), style=strength, class_="right" if right else "wrong", title=f"{share:.1%} of its row"
    )


def draw_roc(roc: Roc) -> Markup:
    """Return the curve in its square, the diagonal of chance behind it."""
    step = max(1, len(roc.points) // _MOST_POINTS)
    points = [(0.0, 0.0), *((x, y) for x, y, _ in roc.points[::step]), (1.0, 1.0)]
    line = " ".join(f"{'M' if not index else 'L'}{_at(x):.1f} {_at(1 - y):.1f}" for index, (x, y) in enumerate(points))
    ticks = [
        join(
            tag("text", f"{value:g}", x=f"{_at(value):.0f}", y=_SIDE + 16, text_anchor="middle"),
            tag("text", f"{value:g}", x=-8, y=f"{_at(1 - value) + 4:.0f}", text_anchor="end"),
            tag("path", d=f"M{_at(value):.1f} 0V{_SIDE}M0 {_at(value):.1f}H{_SIDE}", class_="grid"),
        )
        for value in (0, 0.25, 0.5, 0.75, 1)
    ]
    inside = join(
        ticks,
        tag("path", d=f"M0 {_SIDE}L{_SIDE} 0", class_="chance"),
        tag("path", d=f"{line}V{_SIDE}H0Z", class_="area"),
        tag("path", d=line, class_="curve"),
        tag("text", "false positive rate", x=_SIDE / 2, y=_SIDE + 34, text_anchor="middle", class_="axis"),
        tag("text", "recall", transform=f"translate(-40 {_SIDE / 2}) rotate(-90)", text_anchor="middle", class_="axis"),
        tag("text", f"area {roc.area:.4f}", x=_SIDE - 10, y=_SIDE - 12, text_anchor="end", class_="value"),
    )
    return tag(
        "svg",
        tag("g", inside, transform="translate(54 10)"),
        viewBox=f"0 0 {_SIDE + 70} {_SIDE + 54}",
        width=_SIDE + 70,
        height=_SIDE + 54,
        class_="roc",
        role="img",
        aria_label=f"ROC curve, area {roc.area:.4f}",
    )


def _at(share: float) -> float:
    return min(max(share, 0.0), 1.0) * _SIDE


def slices(metadata: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Return (slice, its metadata) of SlicedClassificationMetrics."""
    found = []
    for item in _mappings(metadata.get("evaluationSlices")):
        inside = item.get("sliceClassificationMetrics")
        if isinstance(inside, Mapping):
            found.append((str(item.get("slice", "")), inside))
    return found

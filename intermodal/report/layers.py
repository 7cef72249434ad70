"""Laying out a directed acyclic graph in layers, as Sugiyama, Tagawa and Toda (1981) do: each edge goes down, few of them cross.

Pure geometry: names, sizes and edges in, places out. Units are those of the sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_SWEEPS = 6
_MANY = 4000
"""Places on edges through layers; beyond that long edges are drawn straight."""


@dataclass(frozen=True)
class Size:
    width: float
    height: float


@dataclass(frozen=True)
class Spacing:
    across: float
    down: float
    row: float
    """Between the rows of one layer that is too wide for one."""
    widest: float


@dataclass
class Layout:
    """Where everything is: `places` are the upper left corners, `routes` the points on each edge's way from top to bottom."""

    width: float = 0.0
    height: float = 0.0
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    routes: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)


@dataclass(eq=False)
class _Item:
    """A node, or the place where an edge passes a layer."""

    name: str | None
    size: Size
    above: list[_Item] = field(default_factory=list)
    below: list[_Item] = field(default_factory=list)
    x: float = 0.0
    """Of its middle."""
    y: float = 0.0
    order: int = 0


def lay_out(sizes: Mapping[str, Size], edges: Sequence[tuple[str, str]], spacing: Spacing) -> Layout:
    """Return a layout of the nodes `sizes` and the edges between them, which form no cycle."""
    if not sizes:
        return Layout()
    ranks = _ranks(sizes, edges)
    layers, chains = _layers(sizes, edges, ranks)
    _order(layers)
    _place_across(layers, spacing)
    height = _place_down(layers, spacing)
    return _finish(layers, chains, height)


def _ranks(sizes: Mapping[str, Size], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return each node's layer: one below the lowest of those before it."""
    before: dict[str, list[str]] = {name: [] for name in sizes}
    after: dict[str, list[str]] = {name: [] for name in sizes}
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    ranks: dict[str, int] = {}
    left = {name: len(sources) for name, sources in before.items()}
    ready = [name for name, count in left.items() if count == 0]
    while ready:
        name = ready.pop()
        ranks[name] = 1 + max((ranks[source] for source in before[name]), default=-1)
        for target in after[name]:
            left[target] -= 1
            if left[target] == 0:
                ready.append(target)
    return ranks


def _layers(
    sizes: Mapping[str, Size], edges: Sequence[tuple[str, str]], ranks: Mapping[str, int]
) -> tuple[list[list[_Item]], dict[tuple[str, str], list[_Item]]]:
    """Return the layers, with a place in each layer that an edge passes, and for each edge its chain of items."""
    layers: list[list[_Item]] = [[] for _ in range(max(ranks.values()) + 1)]
    items = {name: _Item(name, size) for name, size in sizes.items()}
    for name, item in items.items():
        layers[ranks[name]].append(item)
    passes = sum(ranks[target] - ranks[source] - 1 for source, target in edges) <= _MANY
    chains: dict[tuple[str, str], list[_Item]] = {}
    for source, target in edges:
        chain = [items[source]]
        for rank in range(ranks[source] + 1, ranks[target]) if passes else ():
            item = _Item(None, Size(10.0, 0.0))
            layers[rank].append(item)
            chain.append(item)
        chain.append(items[target])
        for upper, lower in pairwise(chain):
            upper.below.append(lower)
            lower.above.append(upper)
        chains[source, target] = chain
    return layers, chains


def _order(layers: list[list[_Item]]) -> None:
    """Order each layer by the middle of its neighbours' orders, down and up in turn."""
    for layer in layers:
        for index, item in enumerate(layer):
            item.order = index
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            keyed = []
            for item in layer:
                near = item.above if down else item.below
                keyed.append((sum(other.order for other in near) / len(near) if near else item.order, item.order, item))
            keyed.sort(key=lambda entry: entry[:2])
            layer[:] = [item for _, _, item in keyed]
            for index, item in enumerate(layer):
                item.order = index


def _place_across(layers: list[list[_Item]], spacing: Spacing) -> None:
    """Set x: each item wants to stand under (then over) the middle of its neighbours; none may overlap."""
    for layer in layers:
        _spread([0.0] * len(layer), layer, spacing.across)
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = []
            for item in layer:
                near = item.above if down else item.below
                wanted.append(sum(other.x for other in near) / len(near) if near else item.x)
            _spread(wanted, layer, spacing.across)


def _spread(wanted: Sequence[float], layer: Sequence[_Item], gap: float) -> None:
    """Set x as close to `wanted` as order and gaps allow (least squares: pool adjacent violators)."""
    offsets, offset = [], 0.0
    for index, item in enumerate(layer):
        if index:
            offset += layer[index - 1].size.width / 2 + gap + item.size.width / 2
        offsets.append(offset)
    blocks: list[tuple[float, int]] = []  # (sum of wanted positions of the block's start, members)
    for want, shift in zip(wanted, offsets, strict=True):
        blocks.append((want - shift, 1))
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = (blocks[-1][0] + total, blocks[-1][1] + count)
    index = 0
    for total, count in blocks:
        for _ in range(count):
            layer[index].x = total / count + offsets[index]
            index += 1


def _place_down(layers: list[list[_Item]], spacing: Spacing) -> float:
    """Set y, and fold layers that are too wide into rows; return the height of all."""
    y = 0.0
    for layer in layers:
        rows = _rows(layer, spacing)
        for number, row in enumerate(rows):
            y += spacing.row if number else 0.0
            height = max(item.size.height for item in row)
            for item in row:
                if item.name is None:  # straight through, beside whatever stands in the layer
                    item.size = Size(item.size.width, height)
                item.y = y
            y += height
        y += spacing.down
    return y - spacing.down


def _rows(layer: list[_Item], spacing: Spacing) -> list[list[_Item]]:
    total = sum(item.size.width + spacing.across for item in layer) - spacing.across
    if total <= spacing.widest:
        return [layer]
    rows: list[list[_Item]] = [[]]
    width = 0.0
    for item in layer:
        if rows[-1] and width + item.size.width > spacing.widest:
            rows.append([])
            width = 0.0
        rows[-1].append(item)
        width += item.size.width + spacing.across
    for row in rows:
        x = 0.0
        for item in row:
            item.x = x + item.size.width / 2
            x += item.size.width + spacing.across
    return rows


def _finish(layers: list[list[_Item]], chains: Mapping[tuple[str, str], list[_Item]], height: float) -> Layout:
    items = [item for layer in layers for item in layer]
    left = min(item.x - item.size.width / 2 for item in items)
    right = max(item.x + item.size.width / 2 for item in items)
    layout = Layout(right - left, height)
    for item in items:
        item.x -= left
        if item.name is not None:
            layout.places[item.name] = (item.x - item.size.width / 2, item.y)
    for edge, chain in chains.items():
        start, *middle, end = chain
        layout.routes[edge] = [
            (start.x, start.y + start.size.height),
            *((item.x, y) for item in middle for y in (item.y, item.y + item.size.height)),
            (end.x, end.y),
        ]
    return layout

"""The pipeline as a picture: tasks in layers, loops and nested pipelines as boxes around theirs, drawn as SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from intermodal.engine.states import State
from intermodal.report.layers import Layout, Size, Spacing, lay_out
from intermodal.report.markup import Markup, join, tag
from intermodal.report.record import RunRecord, TaskRecord
from intermodal.report.words import SIGNS, WORST_FIRST, clip, duration
from intermodal.spec.types import Component, Dag, Task

_SPACING = Spacing(across=22.0, down=34.0, row=14.0, widest=1400.0)
_NODE_HEIGHT = 46.0
_CHARACTER = 7.1
"""Width of a character at the size of a name; the font is the reader's, so this is a guess with some room."""
_SMALL_CHARACTER = 6.4
_LONGEST = 30
_HEAD = 30.0
_PADDING = 16.0
_SMALLEST = 0.62
"""How far a wide graph is shrunk to fit; a wider one is scrolled."""
_MOST_BOXES = 2500
_DEEPEST = 12


@dataclass
class _Box:
    """A task as drawn: a node, or a frame around what is in it."""

    task: Task
    records: Sequence[TaskRecord]
    size: Size
    inside: _Inside | None = None
    kind: str = ""


@dataclass
class _Inside:
    boxes: dict[str, _Box] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)


class _Builder:
    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._left = _MOST_BOXES

    def inside(self, component: Component, place: tuple[str, ...]) -> _Inside:
        """Lay out the tasks of a DAG, those in it first: a frame is as large as what it holds."""
        dag = component.implementation
        found = _Inside()
        if not isinstance(dag, Dag):
            return found
        for name, task in dag.tasks.items():
            found.boxes[name] = self._box(task, (*place, name))
        edges = [(source, task.name) for task in dag.tasks.values() for source in task.dependencies]
        sizes = {name: box.size for name, box in found.boxes.items()}
        found.layout = lay_out(sizes, list(dict.fromkeys(edges)), _SPACING)
        return found

    def _box(self, task: Task, place: tuple[str, ...]) -> _Box:
        self._left -= 1
        records = self._run.by_place.get(place, ())
        title = clip(task.name, _LONGEST)
        width = max(118.0, len(title) * _CHARACTER + 44.0)
        pipeline = self._run.pipeline
        component = pipeline.components.get(task.component) if pipeline else None
        # A component may hold itself many times over: what no page could show is a node like any other.
        if (
            component is None
            or not isinstance(component.implementation, Dag)
            or self._left < 0
            or len(place) > _DEEPEST
        ):
            return _Box(task, records, Size(width, _NODE_HEIGHT))
        inside = self.inside(component, place)
        kind = self._kind(task, records)
        said = len(kind + _summary(records)[1]) * _SMALL_CHARACTER
        width = max(width + said, inside.layout.width + 2 * _PADDING)
        height = _HEAD + inside.layout.height + _PADDING if inside.boxes else _HEAD
        return _Box(task, records, Size(width, height), inside, kind)

    def _kind(self, task: Task, records: Sequence[TaskRecord]) -> str:
        if task.iterator is None:
            return "if · " if task.condition else ""
        counts = {self._run.iterations.get(record.path, 0) for record in records}
        return f"loop ×{counts.pop()} · " if len(counts) == 1 and counts != {0} else "loop · "


def draw_graph(run: RunRecord) -> Markup | None:
    """Return the picture, None if the run's folder no longer holds its pipeline."""
    if run.pipeline is None:
        return None
    inside = _Builder(run).inside(run.pipeline.root, ())
    width, height = inside.layout.width + 4, inside.layout.height + 4
    return tag(
        "svg",
        tag("defs", _arrow()),
        tag("g", _draw(inside), transform="translate(2 2)"),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        style=f"min-width:{_SMALLEST * width:.0f}px",
        role="img",
        aria_label=f"the graph of {run.pipeline.name}",
    )


def _arrow() -> Markup:
    shape = tag("path", d="M0 0 8 4 0 8z", class_="arrow")
    return tag(
        "marker",
        shape,
        id="arrow",
        viewBox="0 0 8 8",
        refX="7",
        refY="4",
        markerWidth="6",
        markerHeight="6",
        orient="auto",
    )


def _draw(inside: _Inside) -> Markup:
    lines = [_edge(points) for points in inside.layout.routes.values()]
    boxes = []
    for name, box in inside.boxes.items():
        x, y = inside.layout.places[name]
        boxes.append(tag("g", _frame(box) if box.inside else _node(box), transform=f"translate({x:.1f} {y:.1f})"))
    return join(lines, boxes)


def _edge(points: Sequence[tuple[float, float]]) -> Markup:
    """Return a line that leaves and arrives straight down."""
    (x, y), *rest = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for next_x, next_y in rest:
        bend = (next_y - y) / 2
        if next_x == x:
            parts.append(f"V{next_y:.1f}")
        else:
            parts.append(f"C{x:.1f} {y + bend:.1f} {next_x:.1f} {next_y - bend:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return tag("path", d="".join(parts), class_="edge", marker_end="url(#arrow)")


def _node(box: _Box) -> Markup:
    state, detail = _summary(box.records)
    width, height = box.size.width, box.size.height
    shape = join(
        tag("title", f"{box.task.name}: {detail}"),
        tag("rect", width=f"{width:.1f}", height=f"{height:.1f}", rx="7", class_="node"),
        tag("rect", width="5", height=f"{height - 14:.1f}", x="7", y="7", rx="2.5", class_="mark"),
        tag("text", clip(box.task.name, _LONGEST), x="22", y="19", class_="name"),
        tag("text", detail, x="22", y="36", class_="detail"),
    )
    return _linked(shape, box.records, state)


def _frame(box: _Box) -> Markup:
    state, detail = _summary(box.records)
    assert box.inside is not None
    width, height = box.size.width, box.size.height
    offset = (width - box.inside.layout.width) / 2
    head = join(
        tag("title", f"{box.task.name}: {detail}"),
        tag("rect", width=f"{width:.1f}", height=f"{height:.1f}", rx="9", class_="frame"),
        tag("text", clip(box.task.name, _LONGEST), x="14", y="20", class_="name"),
        tag("text", f"{box.kind}{detail}", x=f"{width - 12:.1f}", y="20", text_anchor="end", class_="detail"),
    )
    return join(
        _linked(head, box.records, state), tag("g", _draw(box.inside), transform=f"translate({offset:.1f} {_HEAD:.0f})")
    )


def _linked(shape: Markup, records: Sequence[TaskRecord], state: str) -> Markup:
    group = tag("g", shape, class_=f"s-{state}")
    shown = [task for task in records if task.state is State.FAILED] or list(records)
    return tag("a", group, href=f"#{shown[0].anchor}") if shown else group


def _summary(records: Sequence[TaskRecord]) -> tuple[str, str]:
    """Return the worst state of a task's instances, as a class, and what to say of them in few characters."""
    if not records:
        return "none", "not reached"
    counts = Counter(record.state for record in records)
    worst = next(state for state in WORST_FIRST if counts[state])
    if len(records) == 1:
        seconds = records[0].seconds
        timed = worst in (State.SUCCEEDED, State.FAILED) and seconds is not None
        text = duration(seconds) if timed and seconds is not None else worst.value.lower()
        return worst.value.lower(), f"{SIGNS[worst]} {text}"
    return worst.value.lower(), " ".join(f"{counts[state]}{SIGNS[state]}" for state in WORST_FIRST if counts[state])

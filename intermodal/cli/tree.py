"""A run's tasks as the lines of a tree, and which of them to show where a screen has no room for all.

Reads the graph while its own thread changes it: what is read is a moment old at most, and never more than looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from intermodal.engine.graph import Node, Work
from intermodal.engine.states import State
from intermodal.spec.types import Dag

Running = Callable[[str], bool]
"""Whether an attempt of the task at a path runs: a task that waits for its turn is no more than ready."""


@dataclass(frozen=True)
class Row:
    """One line. `total` is 0 for a task, for a branch (a loop, a nested pipeline) how many parts it has."""

    path: str
    name: str
    state: State
    parent: int
    """Index of the branch it is in, -1 at the top."""
    depth: int
    done: int = 0
    total: int = 0

    @property
    def rank(self) -> int:
        """What is to be seen first, where not all can be."""
        order = (State.FAILED, State.RUNNING, State.CANCELLED, State.SUCCEEDED, State.CACHED, State.SKIPPED)
        return order.index(self.state) if self.state in order else len(order)


def tree_rows(root: Work, running: Running) -> list[Row]:
    """Return every task that there is something to say of, in order, each after the branch it is in.

    A branch that has ended well is one line; of a loop only iterations with something running or failed have lines.
    """
    rows: list[Row] = []
    _add_tasks(rows, root, running, -1, 0)
    return rows


def _add_tasks(rows: list[Row], work: Work, running: Running, parent: int, depth: int) -> None:
    for node in list(work.nodes.values()):
        _add_node(rows, node, running, parent, depth)


def _add_node(rows: list[Row], node: Node, running: Running, parent: int, depth: int) -> None:
    name, iterations = node.task.name, list(node.iterations)
    is_dag, is_loop = isinstance(node.component.implementation, Dag), node.task.iterator is not None
    if not (is_dag or is_loop):
        rows.append(Row(node.path, name, _leaf_state(node.path, node.state, running), parent, depth))
        return
    parts: Sequence[Work | Node] = iterations if is_loop else _tasks(iterations)
    done = sum(part.state.final for part in parts)
    index = len(rows)
    rows.append(Row(node.path, name, node.state, parent, depth, done, len(parts)))
    if node.state.final and node.state is not State.FAILED:
        return
    if is_loop:
        for iteration in iterations:
            _add_iteration(rows, iteration, running, index, depth + 1)
    elif iterations:
        _add_tasks(rows, iterations[0], running, index, depth + 1)
        if node.state.final:
            _keep_failed(rows, index)


def _tasks(iterations: Sequence[Work]) -> list[Node]:
    return list(iterations[0].nodes.values()) if iterations else []


def _add_iteration(rows: list[Row], work: Work, running: Running, parent: int, depth: int) -> None:
    """Add an iteration if there is anything to see in it."""
    name = work.path.rpartition("/")[2]
    if not isinstance(work.component.implementation, Dag):
        state = _leaf_state(work.path, work.state, running)
        if state in (State.RUNNING, State.FAILED):
            rows.append(Row(work.path, name, state, parent, depth))
        return
    if work.state.final and work.state is not State.FAILED:
        return
    nodes = list(work.nodes.values())
    before = len(rows)
    if len(nodes) == 1 and not isinstance(nodes[0].component.implementation, Dag) and nodes[0].task.iterator is None:
        only = nodes[0]  # the body of most loops is one task: one line says all
        state = _leaf_state(only.path, only.state, running)
        if state in (State.RUNNING, State.FAILED):
            rows.append(Row(only.path, f"{name}/{only.task.name}", state, parent, depth))
        return
    rows.append(Row(work.path, name, work.state, parent, depth, sum(node.state.final for node in nodes), len(nodes)))
    _add_tasks(rows, work, running, before, depth + 1)
    if work.state.final:
        _keep_failed(rows, before)
    elif not any(row.state in (State.RUNNING, State.FAILED) and not row.total for row in rows[before + 1 :]):
        del rows[before:]


def _keep_failed(rows: list[Row], branch: int) -> None:
    """Of a branch that has failed and is over, keep what failed."""
    kept = [row for row in rows[branch + 1 :] if row.state is State.FAILED]
    places = {id(row): place for place, row in enumerate(rows)}
    moved = {branch: branch} | {places[id(row)]: branch + 1 + place for place, row in enumerate(kept)}
    rows[branch + 1 :] = [
        Row(row.path, row.name, row.state, moved.get(row.parent, branch), row.depth, row.done, row.total)
        for row in kept
    ]


def _leaf_state(path: str, state: State, running: Running) -> State:
    """Return the state of a task that is no branch: the graph calls it running from when it may."""
    return State.PENDING if state is State.RUNNING and not running(path) else state


@dataclass(frozen=True)
class Shown:
    """The lines that have room, and how many tasks of each state have none."""

    rows: tuple[Row, ...]
    hidden: Counter[State]


def fit(rows: Sequence[Row], room: int) -> Shown:
    """Choose at most `room` lines: what failed goes first, then what runs, then what ended, then what waits.

    A line is shown with the branches it is in.
    """
    if len(rows) <= room:
        return Shown(tuple(rows), Counter())
    room = max(1, room - 1)  # a line says what is not shown
    chosen: set[int] = set()
    for index in sorted(range(len(rows)), key=lambda index: (rows[index].rank, index)):
        wanted = [place for place in _with_branches(rows, index) if place not in chosen]
        if len(chosen) + len(wanted) <= room:
            chosen.update(wanted)
        if len(chosen) == room:
            break
    hidden = Counter(row.state for index, row in enumerate(rows) if index not in chosen and not row.total)
    return Shown(tuple(row for index, row in enumerate(rows) if index in chosen), hidden)


def _with_branches(rows: Sequence[Row], index: int) -> Iterator[int]:
    while index >= 0:
        yield index
        index = rows[index].parent

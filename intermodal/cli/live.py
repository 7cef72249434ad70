"""The live view of a run on a terminal: a tree of tasks with state, time, CPU and memory, and the last line each wrote."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from intermodal.cli.text import COLOURS, SIGNS, duration, memory, printable
from intermodal.cli.tree import Row, Shown, fit, tree_rows
from intermodal.engine.backend import Usage
from intermodal.engine.failure import Failure
from intermodal.engine.graph import Graph, Work
from intermodal.engine.states import State
from intermodal.spec.types import Dag

if TYPE_CHECKING:
    from rich.text import Text

_SAMPLE_SECONDS = 2.0
_SHARE = 20
"""The view takes at most this part (one n-th) of a processor: a large run is drawn less often."""
_NAME_SHARE = 0.45
_FIXED = "{time:>8} {cpu:>5} {memory:>7}  "
_WORDS = {State.PENDING: "waiting"}


@dataclass(frozen=True)
class _Task:
    """What was told of one task. `when`: the start as monotonic time, once final the seconds it took."""

    state: State
    when: float
    text: str = ""
    cpu: float | None = None
    """CPUs in use."""
    memory: int | None = None
    """Bytes."""


class LiveProgress:
    """Told of what happens from several threads; `draw` gives the picture of now."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._lock = threading.Lock()
        self._title = ""
        self._start = time.monotonic()
        self._tasks: dict[str, _Task] = {}
        self._counts: Counter[State] = Counter()
        self._branches: dict[str, float] = {}
        """Branch -> when it was first seen to run, as monotonic time."""
        self._graph: Graph | None = None
        self._drawn: Text | None = None
        self._draw_again = 0.0
        self._over = threading.Event()
        self._live = Live(
            console=self._console, get_renderable=self.draw, refresh_per_second=4, vertical_overflow="crop"
        )

    # Told

    def begin(self, run_id: str, notes: list[str]) -> None:
        self._title, self._start = f"run {run_id}", time.monotonic()
        for note in notes:
            self._console.print(f"note: {printable(note.encode(), None)}", markup=False, highlight=False, style="dim")
        self._live.start()

    def watch(self, graph: Graph, usage: Callable[[], Mapping[str, Usage]]) -> None:
        self._graph = graph
        threading.Thread(target=self._sample, args=(usage,), name="usage", daemon=True).start()

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None:
        leaf = self._is_leaf(path)
        with self._lock:
            before = self._tasks.get(path)
            text = f"{failure.kind.value}: {failure.message}" if failure else note
            if not state.final and not text and before is not None:
                text = before.text
            self._tasks[path] = _Task(state, seconds if state.final else time.monotonic(), printable(text.encode()))
            if leaf:
                self._counts[state] += 1
                if before is not None:
                    self._counts[before.state] -= 1

    def line(self, path: str, line: bytes) -> None:
        with self._lock:
            known = self._tasks.get(path)
            if known is not None and not known.state.final:
                self._tasks[path] = replace(known, text=printable(line))

    def end(self) -> None:
        """Draw a last time, leave that on screen, and give the terminal back."""
        self._over.set()
        self._draw_again = 0.0
        self._live.stop()

    def _is_leaf(self, path: str) -> bool:
        if self._graph is None:
            return True
        component, parts = self._graph.pipeline.root, path.split("/")
        position = 0
        while position < len(parts):
            dag = component.implementation
            task = dag.tasks.get(parts[position]) if isinstance(dag, Dag) else None
            if task is None:
                return False
            component = self._graph.pipeline.component(task)
            position += 1
            if task.iterator is not None:
                if position == len(parts):
                    return False
                position += 1
        return not isinstance(component.implementation, Dag)

    # Usage

    def _sample(self, usage: Callable[[], Mapping[str, Usage]]) -> None:
        """Ask every now and then what runs uses; CPU is what was used between two times."""
        before: dict[str, tuple[float, Usage]] = {}
        while not self._over.wait(_SAMPLE_SECONDS if before else _SAMPLE_SECONDS / 4):
            began = time.monotonic()
            found = usage()
            now: dict[str, tuple[float, Usage]] = {}
            for path, used in found.items():
                now[path] = (time.monotonic(), used)
                self._used(path, used, before.get(path), now[path][0])
            before = now
            if self._over.wait(min(10.0, 4 * (time.monotonic() - began))):  # an engine that is slow is asked less
                return

    def _used(self, path: str, used: Usage, earlier: tuple[float, Usage] | None, moment: float) -> None:
        cpu = None
        if earlier is not None and moment > earlier[0] and used.cpu_seconds >= earlier[1].cpu_seconds:
            cpu = (used.cpu_seconds - earlier[1].cpu_seconds) / (moment - earlier[0])
        with self._lock:
            known = self._tasks.get(path)
            if known is not None and not known.state.final:
                self._tasks[path] = replace(known, cpu=cpu, memory=used.memory)

    # Drawn

    def draw(self) -> Text:
        """Return the picture, which fits the terminal. Called from the thread that refreshes it."""
        now = time.monotonic()
        if self._drawn is None or now >= self._draw_again:
            self._drawn = self._picture(now)
            self._draw_again = now + _SHARE * (time.monotonic() - now) if not self._over.is_set() else 0.0
        return self._drawn

    def _picture(self, now: float) -> Text:
        from rich.text import Text

        width, height = self._console.size
        with self._lock:
            tasks, counts = dict(self._tasks), Counter(self._counts)
        root = self._graph.root if self._graph is not None else None
        shown = self._shown(root, tasks, height - 3)
        picture = Text(no_wrap=True, overflow="ellipsis", end="")
        picture.append_text(self._head(counts, now))
        names = [_name(row) for row in shown.rows]
        column = min(max([len(name) for name in names], default=0), int(width * _NAME_SHARE))
        for row, name in zip(shown.rows, names, strict=True):
            picture.append("\n")
            picture.append_text(self._line(row, name, tasks.get(row.path), (column, width), now))
        if hidden := [f"{count} {_word(state)}" for state, count in shown.hidden.items() if count]:
            picture.append(f"\n  not shown: {', '.join(hidden)}", style="dim")
        return picture

    def _shown(self, root: Work | None, tasks: Mapping[str, _Task], room: int) -> Shown:
        if root is None:
            return Shown((), Counter())
        return fit(tree_rows(root, lambda path: path in tasks and tasks[path].state is State.RUNNING), room)

    def _head(self, counts: Counter[State], now: float) -> Text:
        from rich.text import Text

        head = Text(f"{self._title}  {duration(now - self._start)}", style="bold")
        for state in (State.FAILED, State.RUNNING, State.SUCCEEDED, State.CACHED, State.SKIPPED, State.CANCELLED):
            if counts[state] > 0:
                head.append(f"  {counts[state]} {SIGNS[state]}", style=COLOURS.get(state, "dim"))
        return head

    def _line(self, row: Row, name: str, task: _Task | None, sizes: tuple[int, int], now: float) -> Text:
        from rich.text import Text

        column, width = sizes
        colour = COLOURS.get(row.state, "dim")
        line = Text(no_wrap=True)
        line.append(f"{SIGNS.get(row.state, '·')} ", style=colour)
        label = Text(name, no_wrap=True, style="" if row.state is not State.PENDING else "dim")
        label.truncate(column, overflow="ellipsis", pad=True)
        line.append_text(label)
        seconds = self._seconds(row, task, now)
        running = row.state is State.RUNNING and task is not None
        fixed = _FIXED.format(
            time=duration(seconds) if seconds is not None else "",
            cpu=f"{task.cpu:.1f}c" if running and task is not None and task.cpu is not None else "",
            memory=memory(task.memory) if running and task is not None and task.memory is not None else "",
        )
        line.append(fixed)
        text = task.text if task is not None and not row.total else ""
        line.append(text, style="red" if row.state is State.FAILED else "dim")
        line.truncate(width, overflow="ellipsis")
        return line

    def _seconds(self, row: Row, task: _Task | None, now: float) -> float | None:
        if row.state is State.RUNNING:
            start = self._branches.setdefault(row.path, now) if task is None or row.total else task.when
            return now - start
        if task is None or row.state not in (State.SUCCEEDED, State.FAILED):
            return None
        return task.when


def _name(row: Row) -> str:
    count = f"  {row.done}/{row.total}" if row.total else ""
    return "  " * row.depth + printable(row.name.encode()) + count


def _word(state: State) -> str:
    return _WORDS.get(state, state.value.lower())

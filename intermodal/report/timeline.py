"""When everything ran: a row for each task, a bar for each attempt, at the times of the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intermodal.engine.states import State
from intermodal.report.markup import Markup, join, tag
from intermodal.report.record import RunRecord, TaskRecord
from intermodal.report.words import SIGNS, duration

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_TICKS = 8
_LONG_PAUSE = 60.0
"""Seconds; a longer pause in which nothing ran (the run was resumed later) is drawn short, if it is a good part of all."""
_PAUSE_SHARE = 0.25
_PAUSE_WIDTH = 4.0
_THINNEST = 0.25


@dataclass(frozen=True)
class Bar:
    """One attempt, in seconds since the epoch."""

    start: float
    end: float
    state: str
    label: str


class Scale:
    """From times to percent of the width; pauses are cut short."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        self.start = min(bar.start for bar in bars)
        self.end = max(max(bar.end for bar in bars), self.start + 0.001)
        self.pauses = _pauses(bars)
        busy = self.end - self.start - sum(end - start for start, end in self.pauses)
        self._per_second = (100.0 - _PAUSE_WIDTH * len(self.pauses)) / busy

    def __call__(self, moment: float) -> float:
        position, reached = 0.0, self.start
        moment = min(max(moment, self.start), self.end)
        for start, end in self.pauses:
            if moment <= start:
                break
            position += (start - reached) * self._per_second + _PAUSE_WIDTH * (min(moment, end) - start) / (end - start)
            reached = min(moment, end)
        return position + max(0.0, moment - reached) * self._per_second


def _pauses(bars: Sequence[Bar]) -> list[tuple[float, float]]:
    """Return the long stretches in which nothing ran."""
    found, reached = [], min(bar.start for bar in bars)
    total = max(bar.end for bar in bars) - reached
    for bar in sorted(bars, key=lambda bar: bar.start):
        if bar.start - reached > max(_LONG_PAUSE, _PAUSE_SHARE * total):
            found.append((reached, bar.start))
        reached = max(reached, bar.end)
    return found


def draw_timeline(run: RunRecord, now: float) -> Markup | None:
    """Return the rows, None if nothing ran. What has no end yet lasts until `now`."""
    rows = [(task, _bars(task, now)) for task in run.leaves]
    rows = [(task, bars) for task, bars in rows if bars or task.started is not None]
    everything = [bar for _, bars in rows for bar in bars]
    if not everything:
        return None
    scale = Scale(everything)
    rows.sort(key=lambda row: (row[1][0].start if row[1] else row[0].started or 0.0, row[0].path))
    axis = tag("div", tag("div", class_="label"), tag("div", _ticks(scale), class_="track"), class_="row axis")
    return tag("div", axis, [_row(task, bars, scale) for task, bars in rows], class_="timeline")


def _bars(task: TaskRecord, now: float) -> list[Bar]:
    bars = []
    for attempt in task.attempts:
        last = attempt is task.attempts[-1]
        failed = attempt.failure_class is not None
        state = "failed" if failed else task.state.value.lower() if last else "cancelled"
        if last and task.state is State.CANCELLED:
            state = "cancelled"
        end = attempt.ended if attempt.ended is not None else now if task.state is State.RUNNING else attempt.started
        name = f"attempt {attempt.number}: " if len(task.attempts) > 1 else ""
        label = f"{name}{duration(end - attempt.started)}" + (f", {attempt.failure}" if failed else "")
        bars.append(Bar(attempt.started, max(end, attempt.started), state, label))
    if not bars and task.state in (State.SUCCEEDED, State.FAILED) and task.started is not None:  # an importer
        end = task.ended or now
        bars.append(Bar(task.started, end, task.state.value.lower(), duration(end - task.started)))
    return bars


def _row(task: TaskRecord, bars: Sequence[Bar], scale: Scale) -> Markup:
    marks = [_bar(bar, scale) for bar in bars]
    if not bars and task.started is not None:
        word = f"{SIGNS[task.state]} {task.state.value.lower()}"
        marks = [tag("span", word, class_="note", style=f"left:{min(scale(task.started), 90.0):.2f}%")]
    return tag("div", label_of(task), tag("div", marks, class_="track"), class_=f"row s-{task.state.value.lower()}")


def _bar(bar: Bar, scale: Scale) -> Markup:
    left, right = scale(bar.start), scale(bar.end)
    width = max(right - left, _THINNEST)
    left = min(left, 100.0 - width)
    inside = tag("span", duration(bar.end - bar.start)) if width > 7 else None
    outside = None
    if inside is None:
        text = duration(bar.end - bar.start)
        side = f"left:{left + width + 0.4:.2f}%" if left + width < 92 else f"right:{100 - left + 0.4:.2f}%"
        outside = tag("span", text, class_="note", style=side)
    style = f"left:{left:.2f}%;width:{width:.2f}%"
    return join(tag("i", inside, class_=f"bar s-{bar.state}", style=style, title=bar.label), outside)


def label_of(task: TaskRecord) -> Markup:
    """Return a task's path as a link, the way to it dimmed."""
    way, slash, name = task.path.rpartition("/")
    return tag(
        "a", tag("span", way + slash, class_="way"), name, class_="label", href=f"#{task.anchor}", title=task.path
    )


def _ticks(scale: Scale) -> list[Markup]:
    ticks = []
    busy = scale.end - scale.start - sum(end - start for start, end in scale.pauses)
    step = next(
        (step for step in _STEPS if busy / step <= _MOST_TICKS), 86400 * max(1.0, busy // (86400 * _MOST_TICKS))
    )
    pieces = zip(
        [scale.start, *(end for _, end in scale.pauses)],
        [*(start for start, _ in scale.pauses), scale.end],
        strict=True,
    )
    moments = [first + index * step for first, last in pieces for index in range(int((last - first) / step) + 1)]
    for moment in moments:
        left = scale(moment)
        if left <= 96:
            ticks.append(tag("b", _clock(round(moment - scale.start, 3)), style=f"left:{left:.2f}%"))
    for start, end in scale.pauses:
        ticks.append(tag("em", f"{duration(end - start)} later", style=f"left:{scale(start) + _PAUSE_WIDTH / 2:.2f}%"))
    return ticks


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if minutes else ""
    return text + (f"{rest}s" if rest else "")

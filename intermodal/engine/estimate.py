"""How long a run will take, from how long its tasks took before: the run's own scheduling, played through without running."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from intermodal.engine.forecast import Expected
from intermodal.engine.resources import Demand, Ledger


def estimate(tasks: Sequence[Expected], seconds_of: Callable[[Expected], float], total: Demand, slots: int) -> float:
    """Return the seconds until the last task ends on a machine of `total`, `slots` attempts at once.

    A task starts as soon as what it waits for has ended and there is room, the first of the list first, as in the runner. One that
    takes no time takes no room.
    """
    ledger = Ledger(total, slots)
    by_path = {task.path: task for task in tasks}
    waits = {task.path: len(task.after & by_path.keys()) for task in tasks}
    followers: dict[str, list[str]] = {}
    for task in tasks:
        for other in task.after:
            followers.setdefault(other, []).append(task.path)
    ready = [path for path, count in waits.items() if count == 0]
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        held = []
        for path in ready:
            seconds = seconds_of(by_path[path])
            if seconds > 0 and not ledger.take(by_path[path].demand):
                held.append(path)
            else:
                heapq.heappush(running, (now + seconds, path))
        ready = held
        now, ended = heapq.heappop(running)
        if seconds_of(by_path[ended]) > 0:
            ledger.give(by_path[ended].demand)
        for path in followers.get(ended, ()):
            waits[path] -= 1
            if waits[path] == 0:
                ready.append(path)
    return now

"""The paths of tasks, from what KFP's API tells of a run: their names alone.

The API lists tasks of all levels side by side, without saying what is inside what. So a name that the pipeline has once is that
task; the iterations of a loop are numbered in the order in which they began, which need not be that of the items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intermodal.spec.types import Dag, Pipeline

_SLOT = "*"
"""Stands for the number of an iteration."""


@dataclass(frozen=True)
class Place:
    """Where in the pipeline a task of a name may be: its path, with `*` for the number of each iteration around it."""

    parts: tuple[str, ...]
    leaf: bool

    @property
    def loops(self) -> bool:
        return _SLOT in self.parts

    def path(self, number: int) -> str:
        """Return the path of one instance; of loops in loops only the innermost is counted."""
        last = max((index for index, part in enumerate(self.parts) if part == _SLOT), default=-1)
        numbered = [("0" if part == _SLOT else part) for part in self.parts]
        if last >= 0:
            numbered[last] = str(number)
        return "/".join(numbered)


def places(pipeline: Pipeline) -> dict[str, list[Place]]:
    """Return the places of each task name, in the order of the pipeline."""
    found: dict[str, list[Place]] = {}
    for place in _below(pipeline, pipeline.root.implementation, ()):
        name = next(part for part in reversed(place.parts) if part != _SLOT)
        found.setdefault(name, []).append(place)
    return found


def _below(pipeline: Pipeline, dag: object, above: tuple[str, ...]) -> Iterator[Place]:
    if not isinstance(dag, Dag):
        return
    for task in dag.tasks.values():
        inner = pipeline.component(task).implementation
        here = (*above, task.name)
        if isinstance(inner, Dag):
            yield Place(here, leaf=False)
            yield from _below(pipeline, inner, (*here, _SLOT) if task.iterator is not None else here)
        else:
            yield Place((*here, _SLOT) if task.iterator is not None else here, leaf=True)


def assign(places: Sequence[Place], count: int) -> list[tuple[str, Place]]:
    """Return a path for each of `count` tasks of one name, in the order in which they began."""
    loops = [place for place in places if place.loops]
    single = [place for place in places if not place.loops]
    found = [(place.path(0), place) for place in single[:count]]
    for number in range(count - len(found)):
        if loops:
            place = loops[number % len(loops)]
            found.append((place.path(number // len(loops)), place))
    return found

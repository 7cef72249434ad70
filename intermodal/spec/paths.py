"""Paths of tasks in a run: `for-loop-1/0/train` is task `train` in the first iteration of `for-loop-1`."""

from __future__ import annotations

from intermodal.spec.types import Component, Dag, Pipeline


def find_component(pipeline: Pipeline, path: str) -> tuple[Component, bool]:
    """Return the component of the task at `path`, and whether the path is that of a whole loop, not of one iteration."""
    component, loop = pipeline.root, False
    for part in path.split("/"):
        implementation = component.implementation
        if loop and part.isdigit():  # an iteration is one instance of the same component
            loop = False
        elif isinstance(implementation, Dag):
            task = implementation.tasks[part]
            component, loop = pipeline.component(task), task.iterator is not None
    return component, loop

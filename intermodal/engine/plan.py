"""The plan of a run: every task's forecast, and how long the whole will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from intermodal.engine.arguments import read_arguments
from intermodal.engine.backend import Backend
from intermodal.engine.claims import CLAIM_IMAGES
from intermodal.engine.database import Database
from intermodal.engine.estimate import estimate
from intermodal.engine.fit import check_fit
from intermodal.engine.forecast import Expected, Forecaster, Verdict
from intermodal.engine.layout import StateFolder
from intermodal.engine.options import Options
from intermodal.engine.outlook import Outlook
from intermodal.engine.planner import Planner, job_names
from intermodal.engine.python import PythonSteps
from intermodal.engine.resources import Demand, Ledger, machine
from intermodal.engine.session import Request
from intermodal.engine.store import Store, hash_file, scan
from intermodal.settings import Settings
from intermodal.spec.types import Container

_RUN = "the-run"
"""Stands for the id that the run would get."""


@dataclass(frozen=True)
class RunPlan:
    """What a run would do. Seconds are None where nothing is known of the time of a task that would run."""

    pipeline: str
    tasks: Sequence[Expected]
    seconds: float
    """How long it takes if everything that is not known yet turns out to be cached."""
    at_most: float
    """How long it takes if all of that runs."""
    unmeasured: tuple[str, ...]
    """Tasks that may run and of whose time nothing is known: they count as no time at all."""

    def of(self, verdict: Verdict) -> list[Expected]:
        return [task for task in self.tasks if task.verdict is verdict]


def make_plan(request: Request, state: Path, backend: Backend, settings: Settings, options: Options) -> RunPlan:
    """Return what a run of the request would do; `state` need not exist. Starts nothing and records nothing.

    Raises what the run would raise before its first task: BadInput (arguments, a task that can never fit), EnvironmentProblem
    (engine, images), Unsupported.
    """
    pipeline, folder = request.pipeline, StateFolder(state.absolute())
    options.check(pipeline)
    database = Database(folder.database) if folder.database.is_file() else None
    try:
        file_hash = database.file_hash if database else hash_file
        inputs = read_arguments(
            pipeline, request.arguments, lambda path: scan(path, file_hash).digest, parse=request.parse
        )
        total = machine()
        ledger = Ledger(total, options.slots)
        check_fit(pipeline, inputs, ledger)
        names = job_names(_RUN, pipeline, folder)
        python = PythonSteps(folder.root, backend)
        planner = Planner(pipeline, _RUN, names, backend, python, folder, settings, ledger, options)
        store = Store(folder.store) if database else None
        outlook = Outlook(pipeline.name, planner, backend, folder.root, database, store, options.places)
        for component in pipeline.components.values():
            container = component.implementation
            if isinstance(container, Container) and "{{" not in container.image and container.image not in CLAIM_IMAGES:
                outlook.image(container.image)
        tasks = Forecaster(pipeline, outlook, options.success_word).walk(inputs)
    finally:
        if database is not None:
            database.close()
    return _timed(pipeline.name, tasks, total, options.slots)


def _timed(pipeline: str, tasks: Sequence[Expected], total: Demand, slots: int) -> RunPlan:
    def surely(task: Expected) -> float:
        return (task.seconds or 0.0) if task.verdict is Verdict.RUN else 0.0

    def perhaps(task: Expected) -> float:
        return (task.seconds or 0.0) if task.verdict in (Verdict.RUN, Verdict.UNKNOWN) else 0.0

    return RunPlan(
        pipeline,
        tasks,
        estimate(tasks, surely, total, slots),
        estimate(tasks, perhaps, total, slots),
        tuple(task.path for task in tasks if task.verdict in (Verdict.RUN, Verdict.UNKNOWN) and task.seconds is None),
    )

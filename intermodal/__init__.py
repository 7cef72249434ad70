"""Intermodal: one Kubeflow pipeline of containers, unchanged on Docker, AzureML and Kubeflow.

    import intermodal

    run = intermodal.run(my_pipeline, {"text": "hello"})
    run.outputs["model"].path

What is here is loaded when it is first used: importing this costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intermodal.api import Running, get_run, resume, run, start
    from intermodal.errors import BadInput, EnvironmentProblem, IntermodalError, Unsupported
    from intermodal.results import Artifact, Run, RunFailed, Task
    from intermodal.spec.load import load_pipeline
    from intermodal.tracking.find import FoundRun, NotOneRun, find_mlflow_run, find_mlflow_runs

__version__ = "0.1.0"

_HOMES = {
    "intermodal.api": ("Running", "get_run", "resume", "run", "start"),
    "intermodal.errors": ("BadInput", "EnvironmentProblem", "IntermodalError", "Unsupported"),
    "intermodal.results": ("Artifact", "Run", "RunFailed", "Task"),
    "intermodal.spec.load": ("load_pipeline",),
    "intermodal.tracking.find": ("FoundRun", "NotOneRun", "find_mlflow_run", "find_mlflow_runs"),
}
__all__ = [
    "Artifact",
    "BadInput",
    "EnvironmentProblem",
    "FoundRun",
    "IntermodalError",
    "NotOneRun",
    "Run",
    "RunFailed",
    "Running",
    "Task",
    "Unsupported",
    "__version__",
    "find_mlflow_run",
    "find_mlflow_runs",
    "get_run",
    "load_pipeline",
    "resume",
    "run",
    "start",
]


def __getattr__(name: str) -> Any:
    import importlib

    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""The reference that is generated: the command from argparse, settings and experiments from their models, Python from docstrings."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import itertools
import os
import textwrap
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import intermodal
from intermodal import jobs
from intermodal.backends.azureml import native_sweep
from intermodal.backends.azureml import settings as azureml
from intermodal.backends.kubeflow.settings import KubeflowSettings
from intermodal.cli.main import VERBS, make_parser
from intermodal.errors import ExitCode
from intermodal.settings import Settings, TrackingSettings
from pipelines import experiment

_AZUREML = {
    "instance_types": azureml.InstanceType,
    "tasks.COMPONENT": azureml.TaskSettings,
    "secrets.SECRET.KEY": azureml.Secret,
    "sweeps.COMPONENT": native_sweep.NativeSweep,
    "sweeps.COMPONENT.early_termination": native_sweep.EarlyTermination,
}
_COLUMNS = "100"
"""Width of the command's own help, which its formatter takes from the environment."""


def reference_pages() -> dict[str, str]:
    """Return page -> Markdown of everything that is generated."""
    return {
        "reference/command.md": command_page(),
        "reference/settings.md": settings_page(),
        "reference/experiment.md": experiment_page(),
        "reference/python.md": python_page(),
        "reference/jobs.md": jobs_page(),
        "reference/backend.md": backend_page(),
    }


def command_page() -> str:
    """Return the help of every verb, word for word, and the exit codes."""
    parts = [
        "# Every option of the command\n\nGenerated from the command itself: what `intermodal VERB --help` prints. "
        "What the verbs are for: [the command](../cli.md)."
    ]
    with _any_machine():
        for name, parser in _with_actions("intermodal", make_parser(VERBS)):
            parts.append(f"## {name}\n\n```text\n{parser.format_help().rstrip()}\n```")
    notes = attribute_docs(ExitCode)
    rows = [[str(int(code)), f"`{code.name}`", notes.get(code.name, "Done.")] for code in ExitCode]
    parts.append("## Exit codes\n\n" + _table(["code", "name", "meaning"], rows))
    return "\n\n".join(parts) + "\n"


@contextlib.contextmanager
def _any_machine() -> Iterator[None]:
    """Hold an environment in which defaults are those of a reader, not of this machine."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith("INTERMODAL_"):
            del os.environ[name]
    os.environ["COLUMNS"] = _COLUMNS
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _with_actions(name: str, parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    found = [(name, parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                found += _with_actions(f"{name} {word}", inner)
    return found


def settings_page() -> str:
    """Return the tables of pyproject.toml, from their models."""
    parts = [
        "# Settings\n\nTables of the project's `pyproject.toml`. Generated from the models that check them: an unknown key is an "
        "error that names it. What they are for: [container contract](../container-contract.md), [AzureML](../azureml.md), "
        "[Kubeflow](../how-to/kubeflow.md).",
        _model("[tool.intermodal]", Settings),
        _model("[tool.intermodal.tracking]", TrackingSettings),
        _model("[tool.intermodal.azureml]", azureml.AzureMLSettings),
        *(_model(f"[tool.intermodal.azureml.{name}]", table) for name, table in _AZUREML.items()),
        _model("[tool.intermodal.kubeflow]", KubeflowSettings),
    ]
    return "\n\n".join(parts) + "\n"


def experiment_page() -> str:
    """Return the keys of an experiment, from their models, and the file that explains each."""
    return (
        "\n\n".join(
            [
                "# Experiment files\n\nWhat `--config FILE` of `pipelines/ner.py` takes, and `--arg KEY=VALUE` with dots "
                "(`--arg search.trials=8`). A file says only what differs "
                "from the default below. An unknown key is an error with a suggestion.",
                f'```yaml title="pipelines/configs/default.yaml"\n{experiment.DEFAULT.read_text(encoding="utf-8").rstrip()}\n```',
                _model("Keys", experiment.Experiment),
                _model("search", experiment.Search),
                _model("selection", experiment.Selection),
            ]
        )
        + "\n"
    )


def python_page() -> str:
    """Return the public names of `intermodal`, by their docstrings."""
    parts = [
        "# Python\n\nWhat `import intermodal` gives. How it is used: [pipelines from Python](../how-to/python.md).",
        "## run\n\n```python\nrun(pipeline, arguments=None, **options) -> Run\n```\n\n"
        "Run a pipeline and return what came of it, a `Run`: `start` and `wait` in one, with the same arguments. Raises what `start` "
        "raises, and RunFailed if a task failed, unless `raise_on_error` is False.",
    ]
    names = [name for home in intermodal._HOMES.values() for name in home if name != "run"]
    return "\n\n".join([*parts, *(_docstring(getattr(intermodal, name)) for name in names)]) + "\n"


def jobs_page() -> str:
    """Return the public names of `intermodal.jobs`, by their docstrings."""
    head = "# AzureML jobs\n\nWhat `intermodal.jobs` gives. How it is used: [jobs on AzureML from Python](../jobs.md)."
    return "\n\n".join([head, *(_docstring(getattr(jobs, name)) for name in jobs.__all__)]) + "\n"


def backend_page() -> str:
    """Return the contract of a backend, by its docstrings."""
    head = "# The contract of a backend\n\nHow one is written: [backends](../backends.md)."
    module = importlib.import_module("intermodal.engine.backend")
    names = [
        name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    return "\n\n".join([head, *(_docstring(getattr(module, name)) for name in names)]) + "\n"


def _docstring(thing: Any) -> str:
    """Return mkdocstrings' word for a class or function."""
    return f"::: {thing.__module__}.{thing.__qualname__}"


def _model(title: str, model: type[BaseModel]) -> str:
    notes = attribute_docs(model)
    types = annotations(model)
    rows = [
        [f"`{name}`", f"`{types[name]}`", _default(field), " ".join(notes.get(name, "").split())]
        for name, field in model.model_fields.items()
    ]
    about = " ".join((model.__doc__ or "").split())
    return f"## {title}\n\n{about}\n\n" + _table(["key", "type", "default", "meaning"], rows)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return f"`{value.model_dump() if isinstance(value, BaseModel) else value!r}`"


def attribute_docs(owner: type[BaseModel] | type[IntEnum]) -> dict[str, str]:
    """Return name -> the docstring that stands below an attribute of the class."""
    found = {}
    body = _body(owner)
    for node, after in itertools.pairwise(body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = after.value.value
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = after.value.value
    return found


def annotations(model: type[BaseModel]) -> dict[str, str]:
    """Return name -> type, as it is written."""
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in _body(model)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _body(owner: type) -> list[ast.stmt]:
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(definition, ast.ClassDef)
    return definition.body


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

"""From what the user names (a Python file, IR YAML, a pipeline of the KFP SDK) to a pipeline and its arguments."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from intermodal.bounded import read_yaml
from intermodal.engine.session import Request
from intermodal.engine.values import parse_argument
from intermodal.errors import BadInput, EnvironmentProblem
from intermodal.settings import find_project
from intermodal.spec.load import load_pipeline
from intermodal.spec.types import ParameterType, Pipeline

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

Configure = Callable[[dict[str, Any]], dict[str, Any]]
"""A pipeline file may define `configure(values) -> arguments`: it checks the user's values and resolves them to arguments."""

Spelling = Literal["text", "file", "values"]
"""How values were given: as text on a command line, in a file (where text may stand for a number), or as Python values."""

_SDK = threading.Lock()
"""Importing a file changes `sys`, and the SDK's compiler has state of its own: one at a time."""


@dataclass(frozen=True)
class Source:
    """A pipeline, how its arguments are made if it says so, and the folder of the project whose settings hold."""

    pipeline: Pipeline
    configure: Configure | None = None
    project: Path | None = None

    def request(self, values: Mapping[str, Any], spelling: Spelling) -> Request:
        """Return what to run: values checked by the file's own `configure` if it has one, else by the declared types.

        Raises BadInput.
        """
        if self.configure is not None:
            try:
                arguments = self.configure(dict(values))
            except ValueError as error:
                raise BadInput(str(error)) from error
            return Request(self.pipeline, arguments, configuration=arguments, project=self.project)
        if spelling == "file":
            values = {name: self._typed(name, value) for name, value in values.items()}
        return Request(self.pipeline, values, parse=spelling == "text", project=self.project)

    def _typed(self, name: str, value: Any) -> Any:
        declared = self.pipeline.root.input_parameters.get(name)
        if declared is None or not isinstance(value, str) or declared.type is ParameterType.STRING:
            return value
        return parse_argument(value, declared, f"argument {name}")


def load_source(path: Path, name: str | None = None) -> Source:
    """Load a pipeline from a Python file (compiled in memory) or IR YAML/JSON. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file", hint="give a Python file with a @dsl.pipeline, or compiled IR YAML")
    project = find_project(path.absolute().parent)
    if path.suffix != ".py":
        return Source(load_pipeline(path), project=project)
    with _SDK, tempfile.TemporaryDirectory(prefix="intermodal-") as folder:
        module = _import(path)
        compiled = Path(folder) / f"{path.stem}.yaml"
        compile_module(module, path, compiled, name)
        return Source(load_pipeline(compiled), getattr(module, "configure", None), project)


def load_object(given: Any) -> Source:
    """Load a pipeline or component of the KFP SDK, as its decorators make them. Raises BadInput."""
    try:
        from kfp.dsl.base_component import BaseComponent
    except ModuleNotFoundError:
        raise _no_pipeline(given) from None
    if not isinstance(given, BaseComponent):
        raise _no_pipeline(given)
    with _SDK, tempfile.TemporaryDirectory(prefix="intermodal-") as folder:
        compiled = Path(folder) / "pipeline.yaml"
        _compile(given, compiled, f"pipeline {given.name}")
        return Source(load_pipeline(compiled), project=_project_of(given))


def _no_pipeline(given: Any) -> BadInput:
    hint = (
        "decorate it with @dsl.pipeline" if inspect.isfunction(given) else "give a pipeline of the KFP SDK, or a path"
    )
    return BadInput(f"{getattr(given, '__name__', None) or repr(given)}: is no pipeline", hint=hint)


def _project_of(component: BaseComponent) -> Path | None:
    """Return the project of the file that defines a component, else (a notebook, say) of the current folder."""
    function = getattr(component, "pipeline_func", None) or getattr(component, "python_func", None)
    try:
        folder = Path(inspect.getfile(function)).absolute().parent if function else Path.cwd()
    except (TypeError, OSError):
        folder = Path.cwd()
    return find_project(folder) or find_project(Path.cwd())


def compile_file(path: Path, target: Path, name: str | None = None) -> None:
    """Compile the pipeline of a Python file to IR YAML at `target`. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    with _SDK:
        compile_module(_import(path), path, target, name)


def _import(path: Path) -> ModuleType:
    project = find_project(path.absolute().parent)
    for folder in (path.absolute().parent, project):
        if folder is not None and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(f"_pipeline_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        hint = "pip install 'intermodal[kfp]'" if error.name and error.name.startswith("kfp") else None
        raise EnvironmentProblem(f"{path}: needs the Python package {error.name!r}", hint=hint) from error
    except Exception as error:
        raise BadInput(
            f"{path}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            hint="--debug shows where",
        ) from error
    return module


def compile_module(module: ModuleType, path: Path, target: Path, name: str | None) -> None:
    """Compile the module's pipeline (the one named `name` if there are several). Raises BadInput."""
    from kfp.dsl import base_component, graph_component

    own = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, graph_component.GraphComponent) and not key.startswith("_")
    }
    if not own:
        own = {key: value for key, value in vars(module).items() if isinstance(value, base_component.BaseComponent)}
    _compile(_choose(own, path, name), target, str(path))


def _compile(component: BaseComponent, target: Path, place: str) -> None:
    from kfp import compiler

    try:
        compiler.Compiler().compile(component, str(target))
    except Exception as error:
        raise BadInput(f"{place}: does not compile: {error}") from error


def _choose(found: Mapping[str, Any], path: Path, name: str | None) -> Any:
    if name is not None:
        for key, value in found.items():
            if name in (key, value.name):
                return value
        raise BadInput(f"{path}: has no pipeline {name!r}", hint=f"it has {', '.join(found) or 'none'}")
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise BadInput(f"{path}: has no @dsl.pipeline and no component")
    raise BadInput(f"{path}: has several pipelines: {', '.join(found)}", hint="choose one with --pipeline NAME")


def read_values(config: Path | None, arguments: list[str]) -> dict[str, Any]:
    """Return the values of a configuration file with `NAME=VALUE` arguments over them.

    From the file values are YAML's; from the command line text. Raises BadInput.
    """
    values = _read_config(config) if config is not None else {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not key:
            raise BadInput(f"--arg {argument!r}: expected NAME=VALUE")
        values[key] = value
    return values


def _read_config(path: Path) -> dict[str, Any]:
    from intermodal.spec.document import plain
    from intermodal.yaml12 import Loader

    documents = read_yaml(path, Loader)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise BadInput(f"{path}: expected names and values")
    return dict(plain(documents[0]))

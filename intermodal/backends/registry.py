"""Backends by name: those built in, and those that other packages give by an entry point of the group `intermodal.backends`.

An entry point names a factory: `Place -> Backend`. A class whose constructor takes a `Place` is one.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.backends.remote.contract import PLACES
from intermodal.engine.backend import Backend, Capabilities
from intermodal.errors import BadInput, EnvironmentProblem, IntermodalError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "intermodal.backends"
_BUILT_IN = {
    "docker": "intermodal.backends.docker",
    "process": "intermodal.backends.process",
    "host": "intermodal.testing.host",
}
"""Name -> module, imported when the backend is chosen."""
_MEMBERS = {*Backend.__annotations__, *(name for name in vars(Backend) if not name.startswith("_"))}


@dataclass(frozen=True)
class Place:
    """What a factory is told."""

    project: Path
    """The folder of the pipeline's project (the nearest with a pyproject.toml), or the current one."""
    state: Path
    """The state folder, absolute. It may not exist yet; whatever a backend keeps between runs belongs there."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The project's own words for this backend: table `[tool.intermodal.backends.NAME]` of its pyproject.toml."""


Factory = Callable[[Place], Backend]


@dataclass(frozen=True)
class Plugin:
    """A backend that an installed package gives."""

    name: str
    package: str
    """Name and version of the package, for people."""
    entry_point: EntryPoint

    def load(self) -> Factory:
        """Import the factory. Raises EnvironmentProblem naming the package: whatever goes wrong in there is one line here."""
        try:
            factory = self.entry_point.load()
        except Exception as error:  # code of others may raise anything
            raise self.problem(f"cannot be loaded: {_one_line(error)}") from error
        if not callable(factory):
            raise self.problem(f"is no factory: {self.entry_point.value} is a {type(factory).__name__}")
        made: Factory = factory
        return made

    def problem(self, text: str) -> EnvironmentProblem:
        return EnvironmentProblem(
            f"backend {self.name!r} of package {self.package} {text}", hint="mend or uninstall the package"
        )


def default_backend() -> str:
    """Return the name of the backend where none is chosen: $INTERMODAL_BACKEND, else docker."""
    return os.environ.get("INTERMODAL_BACKEND") or "docker"


def plugins() -> list[Plugin]:
    """Return the backends that installed packages give, sorted by name; nothing of them is imported."""
    from importlib.metadata import entry_points  # slow to import, and a built-in backend needs none of it

    found = []
    for entry_point in entry_points(group=GROUP):
        package = f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "(unknown)"
        found.append(Plugin(entry_point.name, package, entry_point))
    return sorted(found, key=lambda plugin: (plugin.name, plugin.package))


def backend_names() -> list[str]:
    """Return the name of every backend that can be chosen, those built in first."""
    return [*_BUILT_IN, *sorted({plugin.name for plugin in plugins()} - set(_BUILT_IN))]


def make_backend(name: str, place: Place) -> Backend:
    """Return the backend; it is not asked anything yet.

    Raises BadInput if there is none of that name, EnvironmentProblem if a package's backend is broken.
    """
    if name in _BUILT_IN:
        if place.options:
            raise BadInput(f"[tool.intermodal.backends.{name}]: this backend has no options")
        return _built_in(name, place)
    if name in PLACES:
        raise BadInput(f"{name} runs nothing on this machine", hint=f"intermodal submit PIPELINE --backend {name}")
    found = [plugin for plugin in plugins() if plugin.name == name]
    if not found:
        raise BadInput(f"there is no backend {name!r}", hint=f"there are {', '.join(backend_names())}")
    if len(found) > 1:
        packages = ", ".join(plugin.package for plugin in found)
        raise EnvironmentProblem(
            f"backend {name!r} is given by several packages: {packages}", hint="uninstall all but one"
        )
    return _made(found[0], place)


def _built_in(name: str, place: Place) -> Backend:
    module: Any = importlib.import_module(_BUILT_IN[name])
    if name == "process":
        process: Backend = module.ProcessBackend(project=place.project, state_dir=place.state)
        return process
    plain: Backend = (module.DockerBackend if name == "docker" else module.HostBackend)()
    return plain


def _made(plugin: Plugin, place: Place) -> Backend:
    factory = plugin.load()
    try:
        backend = factory(place)
    except IntermodalError:
        raise
    except Exception as error:
        raise plugin.problem(f"cannot be made: {_one_line(error)}") from error
    lacking = sorted(member for member in _MEMBERS if not hasattr(backend, member))
    if lacking:
        raise plugin.problem(f"is not a backend: it lacks {', '.join(lacking)}")
    if not isinstance(backend.capabilities, Capabilities):
        raise plugin.problem("declares no Capabilities")
    if backend.name != plugin.name:  # the record keeps the backend's own name, and `resume` looks for that
        raise plugin.problem(f"calls itself {backend.name!r}")
    return backend


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

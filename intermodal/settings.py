"""The project's settings: table `[tool.intermodal]` of the nearest pyproject.toml, typed and validated."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, field_serializer

from intermodal.engine.backend import Network, Relaxation
from intermodal.errors import BadInput

EVERY = "*"
"""In place of a component's name: every component that has no line of its own."""


class TrackingSettings(BaseModel):
    """Table `[tool.intermodal.tracking]`: whether runs are sent to MLflow, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool | None = None
    """None: only if a server is named, here or in $MLFLOW_TRACKING_URI."""
    uri: str = Field(default="", pattern=r"^(https?://[^@\s]+)?$")
    """Of a server; empty for one on this machine. Holds no password: this is kept in the record of each run."""
    register_as: str = Field(default="", pattern=r"^[^/:]*$")
    """Name of a registered model: what a green run that is tracked gives as `champion` becomes a version of it. Empty: only when asked."""


class Settings(BaseModel):
    """What the project says about how its pipelines run. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: dict[str, Network] = Field(default_factory=dict)
    """Component name -> the network it may reach; `*` names every component without a line of its own. The default is none."""
    relax: dict[str, frozenset[Relaxation]] = Field(default_factory=dict)
    """Component name (or `*`) -> what of the container contract it is spared. The default is nothing."""
    timeout: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Component name -> seconds that one attempt may take."""
    backends: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name of a backend that a package gives -> its own options, which only that package understands."""

    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
    azureml: dict[str, Any] = Field(default_factory=dict)
    """What `backends/azureml/settings.py` reads and checks."""
    kubeflow: dict[str, Any] = Field(default_factory=dict)
    """What `backends/kubeflow/settings.py` reads and checks."""

    def network_of(self, component: str) -> Network:
        return self.network.get(component, self.network.get(EVERY, "none"))

    def relaxation_of(self, component: str) -> frozenset[Relaxation]:
        return self.relax.get(component, self.relax.get(EVERY, frozenset()))

    def notes(self, components: Iterable[str]) -> list[str]:
        """Return one line for each of the components that gets more than the container contract gives, by what it gets."""
        names: dict[str, list[str]] = {}
        for name in components:
            given: list[str] = sorted(self.relaxation_of(name))
            if (network := self.network_of(name)) != "none":
                given.append(f"network {network}")
            if given:
                names.setdefault(", ".join(given), []).append(name)
        return [f"relaxed for {', '.join(who)}: {what}" for what, who in names.items()]

    @field_serializer("relax")
    def _sorted(self, relax: dict[str, frozenset[Relaxation]]) -> dict[str, list[Relaxation]]:
        return {name: sorted(words) for name, words in relax.items()}


def find_project(start: Path) -> Path | None:
    """Return the nearest folder at or above `start` that holds a pyproject.toml."""
    for folder in [start, *start.absolute().parents]:
        if (folder / "pyproject.toml").is_file():
            return folder.absolute()
    return None


def load_settings(project: Path | None) -> Settings:
    """Read the settings of the project folder (None: the defaults). Raises BadInput naming the key."""
    if project is None:
        return Settings()
    path = project / "pyproject.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: {error}") from error
    except RecursionError as error:
        raise BadInput(f"{path}: is nested too deeply") from error
    return _validated(document.get("tool", {}).get("intermodal", {}), f"{path}: [tool.intermodal]")


def override(
    settings: Settings, *, network: Sequence[str], relax: Sequence[str], components: Iterable[str]
) -> Settings:
    """Return the settings with words of the command line over them, each `[COMPONENT=]VALUE`; no component means every one.

    Raises BadInput for a value that does not exist or a component that the pipeline does not have.
    """
    given = settings.model_dump()
    known = set(components)
    for option, table, words in (("--network", "network", network), ("--relax", "relax", relax)):
        for word in words:
            name, _, value = word.rpartition("=")
            if name and name not in known:
                raise BadInput(
                    f"{option} {word}: the pipeline has no component {name!r}", hint=", ".join(sorted(known))
                )
            if not name:
                given[table] = {}  # every component means also those that the file names
            given[table][name or EVERY] = value.split(",") if table == "relax" else value
            _validated({table: given[table]}, f"{option} {word}:")
    return _validated(given, "settings:")


def overlay(settings: Settings, tables: Mapping[str, Any]) -> Settings:
    """Return the settings with entries of tables over theirs. Raises BadInput naming the key."""
    given = settings.model_dump()
    for name, table in tables.items():
        merge = isinstance(table, Mapping) and isinstance(given.get(name), dict)
        given[name] = {**given[name], **table} if merge else table
    return _validated(given, "settings:")


def _validated(document: dict[str, Any], place: str) -> Settings:
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{place} {where}: {first['msg']}") from error

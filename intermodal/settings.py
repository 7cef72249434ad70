"""The project's settings: table `[tool.intermodal]` of the nearest pyproject.toml, typed and validated."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from intermodal.errors import BadInput


class Settings(BaseModel):
    """What the project says about how its pipelines run. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: dict[str, Literal["none", "tracking", "bridge"]] = Field(default_factory=dict)
    """Component name -> the network it may reach. What is not named here has none."""
    timeout: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Component name -> seconds that one attempt may take."""
    backends: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name of a backend that a package gives -> its own options, which only that package understands."""


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
        return Settings.model_validate(document.get("tool", {}).get("intermodal", {}))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: [tool.intermodal] {where}: {first['msg']}") from error

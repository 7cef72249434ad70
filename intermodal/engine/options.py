"""How to run, beside what to run."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from intermodal.engine.platform import ConfigFolders
from intermodal.errors import BadInput
from intermodal.spec.types import Dag, Pipeline


def parse_seconds(text: str) -> float:
    """Return the seconds that `90s`, `30m`, `2h` or a plain number mean. Raises BadInput."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text)
    if not match or float(match[1]) == 0:
        raise BadInput(f"{text!r} is no length of time such as 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


def _no_folders() -> ConfigFolders:
    return ConfigFolders(Path("secrets"), Path("config-maps"))


@dataclass(frozen=True)
class Options:
    """The user's choices for one run; kept in its record, so that `resume` goes on with the same."""

    cache: bool = True
    no_cache_tasks: frozenset[str] = frozenset()
    """Names or paths of tasks that run whatever the cache holds; that of a loop or a nested pipeline means all in it."""
    fail_fast: bool = False
    slots: int = 16
    """Attempts at once at most."""
    grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""
    timeout: float | None = None
    """Seconds that the whole run may take, None for no limit."""
    configs: ConfigFolders = field(default_factory=_no_folders)
    places: tuple[tuple[str, Path], ...] = ()
    """Prefixes of URIs that importers name, and the local folders that stand in for them."""
    success_word: Literal["COMPLETE", "SUCCEEDED"] = "COMPLETE"
    """What PipelineTaskFinalStatus says of a task that succeeded: KFP's open-source backend and its documentation differ."""

    def runs_anyway(self, path: str) -> bool:
        """Whether the user wants the task at `path`, or one around it, to run whatever the cache holds."""
        parts = path.split("/")
        around = {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
        return not self.no_cache_tasks.isdisjoint(around | set(parts))

    def check(self, pipeline: Pipeline) -> None:
        """Raise BadInput for a number that means nothing, or a task that the pipeline does not have."""
        if self.slots < 1:
            raise BadInput(f"{self.slots} attempts at once: must be at least 1")
        if self.timeout is not None and self.timeout <= 0:
            raise BadInput(f"a timeout of {self.timeout:g} s: must be more than 0")
        dags = (component.implementation for component in (pipeline.root, *pipeline.components.values()))
        names = {name for dag in dags if isinstance(dag, Dag) for name in dag.tasks}
        for given in sorted(self.no_cache_tasks):
            for part in given.split("/"):
                if part not in names and not part.isdigit():
                    close = difflib.get_close_matches(part, names, 1) or sorted(names)[:8]
                    raise BadInput(f"pipeline {pipeline.name} has no task {part!r}", hint=f"it has {', '.join(close)}")

    def as_json(self) -> dict[str, Any]:
        return {
            "cache": self.cache,
            "no_cache_tasks": sorted(self.no_cache_tasks),
            "fail_fast": self.fail_fast,
            "slots": self.slots,
            "grace": self.grace,
            "timeout": self.timeout,
            "secrets": str(self.configs.secrets),
            "config_maps": str(self.configs.config_maps),
            "places": [[prefix, str(folder)] for prefix, folder in self.places],
            "success_word": self.success_word,
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> Options:
        configs = ConfigFolders(Path(document["secrets"]), Path(document["config_maps"]))
        places = tuple((prefix, Path(folder)) for prefix, folder in document.get("places", ()))
        rest = {key: value for key, value in document.items() if key not in ("secrets", "config_maps")}
        rest |= {"no_cache_tasks": frozenset(document["no_cache_tasks"]), "places": places}
        return Options(**rest, configs=configs)

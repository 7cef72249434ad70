"""How to run, beside what to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from intermodal.engine.platform import ConfigFolders


def _no_folders() -> ConfigFolders:
    return ConfigFolders(Path("secrets"), Path("config-maps"))


@dataclass(frozen=True)
class Options:
    """The user's choices for one run; kept in its record, so that `resume` goes on with the same."""

    cache: bool = True
    no_cache_tasks: frozenset[str] = frozenset()
    """Names or paths of tasks that run whatever the cache holds."""
    fail_fast: bool = False
    slots: int = 16
    """Attempts at once at most."""
    grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""
    timeout: float | None = None
    """Seconds that the whole run may take, None for no limit."""
    configs: ConfigFolders = field(default_factory=_no_folders)
    success_word: Literal["COMPLETE", "SUCCEEDED"] = "COMPLETE"
    """What PipelineTaskFinalStatus says of a task that succeeded: KFP's open-source backend and its documentation differ."""

    def caches(self, task: str, path: str) -> bool:
        """Whether the cache may answer for a task."""
        return self.cache and not ({task, path} & self.no_cache_tasks)

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
            "success_word": self.success_word,
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> Options:
        configs = ConfigFolders(Path(document["secrets"]), Path(document["config_maps"]))
        rest = {key: value for key, value in document.items() if key not in ("secrets", "config_maps")}
        return Options(**{**rest, "no_cache_tasks": frozenset(document["no_cache_tasks"])}, configs=configs)

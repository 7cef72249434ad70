"""The metas of a run's nodes, kept in the run's folder as they come: what is known once is known to every later follower."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from intermodal.backends.azureml.launcher.known import Meta


@dataclass(frozen=True)
class KeptMeta:
    """How a task ended, in which job, and where that job's artifact outputs lie (port -> address)."""

    job: str
    ports: Mapping[str, str]
    meta: Meta


class Metas:
    """The metas of one run, by the path of the task."""

    def __init__(self, folder: Path, nodes: Mapping[str, str]) -> None:
        """`nodes` maps the path of a task to its node, by which its file is named."""
        self._folder = folder
        self._nodes = nodes
        self._kept: dict[str, KeptMeta] = {}

    def get(self, path: str) -> KeptMeta | None:
        if path not in self._kept and path in self._nodes:
            file = self._folder / f"{self._nodes[path]}.json"
            if file.is_file():
                document = json.loads(file.read_text(encoding="utf-8"))
                self._kept[path] = KeptMeta(document["job"], document["ports"], Meta.from_json(document["meta"]))
        return self._kept.get(path)

    def all(self) -> dict[str, Meta]:
        """Return all that are known, by path; the verdict has none of its own."""
        found = {path: self.get(path) for path in self._nodes if path}
        return {path: kept.meta for path, kept in found.items() if kept is not None}

    def keep(self, path: str, kept: KeptMeta) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{self._nodes[path]}.json"
        temporary = file.with_suffix(f".{os.getpid()}")
        document = {"job": kept.job, "ports": dict(kept.ports), "meta": kept.meta.as_json()}
        temporary.write_text(json.dumps(document, sort_keys=True, ensure_ascii=False), encoding="utf-8")
        temporary.replace(file)
        self._kept[path] = kept

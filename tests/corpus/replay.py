"""The oracle's way to run steps of the corpus: as they ran on the engine, if they were given what the oracle gives them.

Many steps of the corpus do not do the same twice (they toss coins, tell the time), so a second run of them would prove nothing. What an
attempt was given, how it ended and what it wrote are facts of the container; all the rest is the oracle's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.corpus.engine import Seen
from tests.oracle.executors import environment
from tests.oracle.leaf import Executor, Place, Step, Thing
from tests.oracle.values import Wrong

ROOT = "/kfp"
_CLAIMS = ("argostub/createpvc", "argostub/deletepvc")
_DERIVED = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}


class ContainerPlace(Place):
    """Paths of the container contract."""

    def __init__(self, folder: Path) -> None:
        super().__init__(ROOT, folder)

    def input(self, name: str, index: int, thing: Thing, *, is_list: bool) -> tuple[str, str]:
        _, path = super().input(name, index, thing, is_list=is_list)
        if thing.uri.startswith("oci://"):
            return thing.uri, f"/oci/{thing.uri[len('oci://') :].replace('/', '_')}/models"
        return (thing.uri or (path if thing.path is None else STORED)), path


STORED = "(a URI of the store)"
"""The oracle does not know how the store names content: any URI that the engine gives is right, if it can be imported again."""


class Replay(Executor):
    """`problems` tells, after the run, what the engine gave its steps otherwise, or did not run at all."""

    def __init__(
        self, seen: Mapping[tuple[str, int], Seen], folder: Path, run: str, objects: Mapping[str, Path], store: Path
    ) -> None:
        """`objects` are the contents of URIs that importers name."""
        self._left = dict(seen)
        self._folder = folder
        self._run = run
        self._objects = objects
        self._store = store
        self._problems: list[str] = []

    @property
    def problems(self) -> list[str]:
        return [
            *self._problems,
            *(f"{path}: attempt {number} is not the oracle's" for path, number in sorted(self._left)),
        ]

    def place(self, path: str, attempt: int) -> Place:
        seen = self._left.get((path, attempt))
        if seen is not None:
            return ContainerPlace(seen.folder)
        folder = self._folder / "unseen" / path / str(attempt)
        (folder / "outputs" / "parameters").mkdir(parents=True)
        return ContainerPlace(folder)

    def run(self, step: Step, place: Place, inputs: dict[str, list[Thing]], lists: set[str]) -> int:
        if step.image in _CLAIMS:
            return self._claim(step, place)
        seen = self._left.pop((step.path, step.attempt), None)
        if seen is None:
            self._problems.append(f"{step.path}: attempt {step.attempt} was not run")
            return 1
        self._compare(step, seen)
        return 0 if seen.exit.failure is None else 1

    def _claim(self, step: Step, place: Place) -> int:
        """Do what the cluster's driver does instead of running a container."""
        name = step.parameters.get("pvc_name") or f"{self._run}-{step.parameters.get('pvc_name_suffix')}"
        (place.folder / "outputs" / "parameters" / "name").write_text(name, encoding="utf-8")
        return 0

    def fetch(self, uri: str) -> Path:
        if stored := re.fullmatch(r"/kfp/store/([0-9a-f]{64})/[^/]+", uri):
            return self._store / stored[1][:2] / stored[1] / "data"
        if uri in self._objects:
            return self._objects[uri]
        raise Wrong(f"{uri} is not there")

    # What the engine gave the step

    def _compare(self, step: Step, seen: Seen) -> None:
        launch, place = seen.launch, f"{step.path}: attempt {step.attempt}"
        if launch.image.reference != step.image:
            self._problems.append(f"{place}: image {launch.image.reference}, the oracle has {step.image}")
        mine, theirs = _without_installing([*step.command, *step.args]), [*launch.command, *launch.args]
        theirs = theirs[max(0, len(theirs) - len(mine)) :]
        for left, right in zip(mine, theirs, strict=False):
            if _comparable(left) != _comparable(right) and not right.startswith(left):
                self._problems.append(f"{place}: the engine gave {right[:300]!r}, the oracle {left[:300]!r}")
        if len(mine) != len(theirs):
            self._problems.append(f"{place}: the engine gave {len(theirs)} words, the oracle {len(mine)}")
        for name, value in environment(step).items():
            if name != "PATH" and launch.env.get(name) != value:
                self._problems.append(f"{place}: {name} is {launch.env.get(name)!r}, for the oracle {value!r}")


def _without_installing(words: list[str]) -> list[str]:
    """Return the words without what installs packages before a lightweight component."""
    if words[:2] == ["sh", "-c"] and "pip install" in words[2] and words[2].rstrip().endswith('"$0" "$@"'):
        return words[3:]
    return words


def _comparable(word: str) -> Any:
    """Return a word so that equal meaning is equal: JSON as values, without the store's URIs and versions of types."""
    if not word.startswith(("{", "[")):
        return re.sub(r"/kfp/store/[0-9a-f]{64}/[^/\s\"]+", STORED, word)
    try:
        return _plain(json.loads(word))
    except ValueError:
        return word


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        kept = {key: _plain(item) for key, item in value.items() if key not in ("schemaVersion", "custom_path")}
        if kept.keys() >= {"name", "uri", "metadata", "type"}:
            kept.pop("name")  # the name of an artifact is the key of its producer, or of its importer
            kept["metadata"] = {key: item for key, item in kept["metadata"].items() if key != "_kfp_workspace"}
            if kept["uri"].startswith("/kfp/store/"):
                kept["uri"] = STORED
        if kept.keys() >= {"state", "pipelineTaskName", "error"}:
            kept["error"] = {}  # words for people
        return kept
    return value

"""A deterministic program in place of a container: the same for the oracle and for the engine's backend.

`stub <executor input>`: hashes what it is given, values and the content of artifacts, and makes its outputs of the hash. It fails if its
input `fragile` says so and the hash is odd. Half of the outputs it writes to files, half into ExecutorOutput.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from intermodal.engine.backend import Exit, Launch
from intermodal.engine.failure import Failure, FailureClass
from tests.support.host import HostBackend

Json = dict[str, Any]


def stub(words: list[str]) -> int:
    """Run the program; return its exit code."""
    given = json.loads(words[1])
    seed = _digest([given["inputs"]["parameterValues"], _contents(given["inputs"]["artifacts"]), words[2:]])
    if given["inputs"]["parameterValues"].get("fragile") and seed % 2:
        return 1
    report: Json = {"parameterValues": {}, "artifacts": {}}
    for name, spec in given["outputs"]["parameters"].items():
        value = _value(name, seed)
        if _digest(name) % 2:
            report["parameterValues"][name] = value
        else:
            written = value if isinstance(value, str) else json.dumps(value)
            Path(spec["outputFile"]).write_text(written, encoding="utf-8")
    for name, entry in given["outputs"]["artifacts"].items():
        (artifact,) = entry["artifacts"]
        report["artifacts"][name] = {"artifacts": list(_artifacts(name, artifact, seed))}
    Path(given["outputs"]["outputFile"]).write_text(json.dumps(report), encoding="utf-8")
    return 0


def _digest(value: Any) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:4], "big")


def _contents(artifacts: Json) -> Any:
    return {
        name: [[_content(Path(item.get("custom_path", item["uri"]))), item["metadata"]] for item in entry["artifacts"]]
        for name, entry in artifacts.items()
    }


def _content(path: Path) -> Any:
    if path.is_dir():
        return {child.name: _content(child) for child in sorted(path.iterdir())}
    return path.read_text(encoding="utf-8")


def _value(name: str, seed: int) -> Any:
    """Return a value of the type that the output's name says, few different ones, so that conditions hold now and then."""
    return {
        "text": ["", "a", "it's", "{{$.inputs.parameters['text']}}"][seed % 4],
        "number": seed % 3,
        "truth": seed % 2 == 0,
        "items": [["a", "b"], [], ["c"]][seed % 3],
        "struct": {"key": ["x", "y"][seed % 2], "n": seed % 3, "deep": [seed % 5, 0.5]},
    }[name]


def _artifacts(name: str, artifact: Json, seed: int) -> Any:
    path = Path(artifact["uri"])
    if name == "data":
        path.mkdir()
        (path / "file").write_text(f"content {seed % 5}", encoding="utf-8")
        yield {"name": name, "uri": str(path), "metadata": {"seed": seed % 5}}
        return
    path.mkdir()
    for index in range(seed % 3):
        (path / str(index)).write_text(f"part {index} {seed % 5}", encoding="utf-8")
        yield {"name": name, "uri": str(path / str(index)), "metadata": {"index": index}}


class StubBackend(HostBackend):
    """Calls the program in the attempt's thread instead of starting a process."""

    def start(self, launch: Launch) -> str:
        for mount in launch.mounts:
            target = Path(mount.target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target != mount.source:
                target.symlink_to(mount.source)
        self.launches.append(launch)
        return f"{launch.task}/{launch.attempt}"

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        started = time.monotonic()
        code = stub([*launch.command, *launch.args])
        failure = Failure(FailureClass.USER_CODE, f"exited with code {code}", code) if code else None
        return Exit(code, failure, time.monotonic() - started)

"""Runs a compiled job in this process, node after node, as the service would: bindings filled in, nothing after a failed node."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.compile import Compiled
from intermodal.backends.azureml.launcher.main import Launcher, parser, unpack
from intermodal.backends.azureml.launcher.step import Execute, execute

_BINDING = re.compile(r"\$\{\{parent\.(?:jobs\.(?P<job>\w+)\.outputs|inputs)\.(?P<port>\w+)\}\}")
_PORT = re.compile(r"\$\{\{(?P<side>inputs|outputs)\.(?P<name>\w+)\}\}")


@dataclass
class Simulated:
    """How the nodes ended (Completed, Failed, NotRun) and the metas they wrote, by node."""

    folder: Path
    states: dict[str, str] = field(default_factory=dict)
    metas: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """What the nodes told run history, where there was one."""
    ends: dict[str, str] = field(default_factory=dict)
    """The last words of nodes that failed, where they were kept."""

    def content(self, digest: str) -> Path:
        """Return the path of what stands for an output artifact's content."""
        _, leaf, output, relative = digest.split("|", 3)
        return self.folder / leaf / output / relative


def simulate(compiled: Compiled, folder: Path, run: Execute = execute) -> Simulated:
    """Run the job; artifact arguments are local paths."""
    job, seen = compiled.job, Simulated(folder)
    paths = compiled.report.nodes
    before = {name: {m["job"] for m in _bindings(node) if m["job"]} for name, node in job["jobs"].items()}
    for name in TopologicalSorter(before).static_order():
        if any(seen.states[other] != "Completed" for other in before[name]):
            seen.states[name] = "NotRun"
            continue
        node = job["jobs"][name]
        words = _command(compiled, name, folder)
        args = parser().parse_args(words)
        code = Launcher(unpack(args.wiring), args, run).run()
        seen.states[name] = "Completed" if code == 0 else "Failed"
        meta = json.loads((folder / (paths[name] or "verdict") / "kfp_meta" / "meta.json").read_text())
        seen.metas[name] = meta
        assert all(
            any((folder / (paths[name] or "verdict") / port.removeprefix("a_")).iterdir())
            for port in _outputs(compiled, node)
        )
    return seen


def _bindings(node: dict[str, Any]) -> list[re.Match[str]]:
    return [match for value in node["inputs"].values() if (match := _BINDING.fullmatch(str(value)))]


def _outputs(compiled: Compiled, node: dict[str, Any]) -> list[str]:
    return [port for port in compiled.components[node["component"]]["outputs"] if not port.startswith("v_")]


def _command(compiled: Compiled, name: str, folder: Path) -> list[str]:
    """Return the node's arguments, every port replaced by what the service would put there."""
    job, node = compiled.job, compiled.job["jobs"][name]
    paths = compiled.report.nodes

    def place(of: str, port: str) -> str:
        target = folder / (paths[of] or "verdict") / port.removeprefix("a_")
        target.mkdir(parents=True, exist_ok=True)
        return str(target)

    def value(match: re.Match[str]) -> str:
        if match["side"] == "outputs":
            return place(name, match["name"])
        written = str(node["inputs"][match["name"]])
        bound = _BINDING.fullmatch(written)
        if bound is None:
            return written
        if bound["job"]:
            return place(bound["job"], bound["port"])
        given = job["inputs"][bound["port"]]
        return given["path"] if isinstance(given, dict) else str(given)

    command = _PORT.sub(value, compiled.components[node["component"]]["command"])
    words = shlex.split(command)
    return words[words.index("launch.py") + 1 :]

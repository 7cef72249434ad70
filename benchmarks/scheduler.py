"""What the engine itself takes for a task: pipelines of steps that are over as soon as they start, on no container at all."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import environment
from benchmarks.figures import Figure, within

_STEP = {
    "executorLabel": "exec-step",
    "inputDefinitions": {"parameters": {"item": {"parameterType": "NUMBER_INTEGER"}}},
}


_MEMORY = Path("/dev/shm")


def ten_thousand(folder: Path) -> list[Figure]:
    """10,000 no-op tasks in one loop, and 1,000 of them, each in a process of its own: CPU time a task, and memory.

    The state folder is in memory where that can be: ext4 looks for free inodes among all that anybody removed in the last
    minutes, which doubles the time of a task on a machine where something else was just cleaned up. On one core, because
    waking an idle second core of a virtual machine for each of 40 short turns a task costs as much as the turns.
    """
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else folder) as state:
        few, many = _measure(1_000, Path(state)), _measure(10_000, Path(state))
    per_task = (many["cpu"] - few["cpu"]) / 9_000 * 1000
    growth = (many["memory"] - few["memory"]) / 9_000
    return [
        within(
            "engine time a task, 10,000 no-op tasks on a fake launcher, one core, state folder in memory",
            [per_task],
            1.0,
            "ms",
        ),
        within("memory a task, the same", [growth], 10.0, "KiB"),
    ]


def _measure(count: int, folder: Path) -> dict[str, float]:
    """Run the loop in a process of its own; return CPU seconds and peak KiB."""
    command = [sys.executable, "-m", "benchmarks.scheduler", str(count), str(folder / f"state-{count}")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    return dict(json.loads(done.stdout))


def pipeline(count: int) -> dict[str, Any]:
    """Return the IR of a loop over `count` numbers whose body is one step."""
    inner = {"inputDefinitions": {"parameters": {"items-loop-item": {"parameterType": "NUMBER_INTEGER"}}}}
    step = {
        "taskInfo": {"name": "step"},
        "componentRef": {"name": "comp-step"},
        "inputs": {"parameters": {"item": {"componentInputParameter": "items-loop-item"}}},
    }
    loop = {
        "taskInfo": {"name": "loop"},
        "componentRef": {"name": "comp-loop"},
        "parameterIterator": {"items": {"raw": json.dumps(list(range(count)))}, "itemInput": "items-loop-item"},
    }
    return {
        "pipelineInfo": {"name": "many"},
        "deploymentSpec": {"executors": {"exec-step": {"container": {"image": "none", "command": ["true"]}}}},
        "components": {"comp-step": _STEP, "comp-loop": {**inner, "dag": {"tasks": {"step": step}}}},
        "root": {"dag": {"tasks": {"loop": loop}}},
    }


def main() -> None:
    """Run one loop on the fake launcher and print what it took."""
    from intermodal.engine.options import Options
    from intermodal.engine.session import Request, Session
    from intermodal.settings import Settings
    from intermodal.spec.load import build_pipeline
    from intermodal.testing.null import NullBackend

    class Silent:
        def task(self, *_: object) -> None: ...

        def line(self, *_: object) -> None: ...

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    count, state = int(sys.argv[1]), Path(sys.argv[2])
    loaded = build_pipeline(pipeline(count), {})
    before = resource.getrusage(resource.RUSAGE_SELF)
    with Session(state, NullBackend(), Settings(), Options(cache=False)) as session:
        result = session.execute(session.runner(Request(loaded, {}), Silent()))
    after = resource.getrusage(resource.RUSAGE_SELF)
    if not result.state.green:
        raise SystemExit(f"expected success, got {result.state}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "memory": after.ru_maxrss - before.ru_maxrss}))


if __name__ == "__main__":
    main()

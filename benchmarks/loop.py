"""Loops and sleeps that run together, beside kfp.local, which runs one step at a time."""

from __future__ import annotations

from pathlib import Path

from benchmarks import kfp_local
from benchmarks.command import compile_pipeline, intermodal, timed
from benchmarks.figures import Figure, faster, within

_ROUNDS = 3


def together(folder: Path) -> list[Figure]:
    """Three 3 s sleeps; six 2 s Python components in a loop with parallelism 6. Each round runs all of them."""
    python = kfp_local.environment(folder)
    state = folder / "state"
    three, loop = compile_pipeline(kfp_local.three, folder), compile_pipeline(kfp_local.loop, folder)
    intermodal(loop, state=state)  # warm: the KFP runtime fetched, images hashed
    ours: dict[str, list[float]] = {"three": [], "loop": []}
    peer: dict[str, list[float]] = {"three": [], "loop": []}
    for _ in range(_ROUNDS):
        for name, path in (("three", three), ("loop", loop)):
            ours[name].append(intermodal(path, "--no-cache", state=state)[0])
            peer[name].append(timed(lambda name=name: kfp_local.run(python, name, folder)))
    what = "ParallelFor of six 2 s Python components, parallelism 6"
    return [
        within("three 3 s sleeps together, the whole command", ours["three"], 4.2),
        faster("the same", ours["three"], "kfp.local DockerRunner", peer["three"], 2.0),
        faster(what, ours["loop"], "kfp.local SubprocessRunner", peer["loop"], 4.0),
    ]

"""What tracking costs a run: with a real server, and with one that never answers."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from benchmarks.command import compile_pipeline, intermodal
from benchmarks.figures import Figure, against, within
from benchmarks.steps import chain
from intermodal.tracking.server import ensure_server, stop_server

_ROUNDS = 5


def cost(folder: Path) -> list[Figure]:
    """A chain of eleven steps, in turn: not tracked, to a server that never answers, to a real one."""
    path, state, home = compile_pipeline(chain(11), folder), folder / "state", folder / "server"
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        targets = ["", f"http://127.0.0.1:{silent.getsockname()[1]}", ensure_server(home).uri]
        times: list[list[float]] = [[], [], []]
        try:
            for _ in range(1 + _ROUNDS):
                for uri, taken in zip(targets, times, strict=True):
                    switch = {"MLFLOW_TRACKING_URI": uri, "INTERMODAL_TRACKING": "on" if uri else "off"}
                    taken.append(intermodal(path, "--no-cache", state=state, **switch)[0])
        finally:
            stop_server(home)
    plain, hung, real = (taken[1:] for taken in times)  # the first round warms
    parting = [mine - theirs for mine, theirs in zip(real, plain, strict=True)]
    return [
        against("a chain of eleven steps, tracked to a server that never answers", hung, "not tracked", plain, 1.15),
        within("tracking it, until the server has all of it or two seconds are over: more than without", parting, 2.5),
    ]

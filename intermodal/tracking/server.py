"""The local tracking server: a real `mlflow server` on SQLite in the state folder, started once, found again by every later run.

`<state>/tracking/`: `mlflow.db`, `artifacts/`, `server.json` (which process, which port), `server.log`. It listens on 127.0.0.1 alone and
outlives who started it; `intermodal tracking down` stops it. The process writes `server.json` itself before it serves, and has its
starter's turn until then: whoever kills the starter, at whatever moment, leaves one server that is found, or none.

    python -m intermodal.tracking.server FOLDER PORT DESCRIPTOR
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from intermodal.backends.process.supervisor import start_time
from intermodal.errors import EnvironmentProblem
from intermodal.turns import alone

HOST = "127.0.0.1"
EXTRA = "intermodal[tracking]"
_BIRTH = 180.0
"""Seconds that a server may take to answer: it makes its database first, on a machine that has other work to do."""
_GRACE = 10.0
_PRIVATE = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@dataclass(frozen=True)
class Server:
    """The process that serves, and where."""

    pid: int
    started: int
    """In ticks since boot: with the pid it names the process."""
    port: int

    @property
    def uri(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def lives(self) -> bool:
        return start_time(self.pid) == self.started

    def answers(self, timeout: float = 2.0) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.uri}/health", timeout=timeout) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def find_server(folder: Path) -> Server | None:
    """Return the living server of a state folder's `tracking`, answering or not; None if there is none."""
    server = _recorded(folder)
    return server if server is not None and server.lives else None


def ensure_server(folder: Path, *, port: int = 0, patience: float = _BIRTH) -> Server:
    """Return the server, started if there is none; it answers. One process at a time starts one.

    `port` 0 is that of its last life, else any. Raises EnvironmentProblem: MLflow is not installed, or does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = find_server(folder)
    if server is not None and server.answers():
        return server
    with _alone(folder) as turn:
        server = find_server(folder)
        child = None
        if server is None:
            server, child = _start(folder, port, turn)
        deadline = time.monotonic() + patience
        while not server.answers():
            if child is not None and child.poll() is not None:
                raise EnvironmentProblem(f"the tracking server ended at once: {_last_words(folder)}")
            if time.monotonic() > deadline:
                if child is not None:
                    _end(server)
                raise EnvironmentProblem(
                    f"the tracking server at {server.uri} does not answer", hint=f"look at {folder / 'server.log'}"
                )
            time.sleep(0.2)
    return server


def stop_server(folder: Path) -> Server | None:
    """End the server and return it; None if there was none."""
    if not folder.is_dir():
        return None
    with _alone(folder):
        server = find_server(folder)
        if server is not None:
            _end(server)
        return server


def served_database(folder: Path, uri: str) -> Path | None:
    """Return the SQLite file of the living server of `folder`; None unless that is the server at `uri` and the file is this user's.

    What the process was started with decides: a copy of a state folder names the same process, and has a database of its own.
    """
    server = find_server(folder)
    if server is None or server.uri != uri:
        return None
    database = _database(folder)
    try:
        words = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")
        is_mine = database.stat().st_uid == os.geteuid()
    except OSError:
        return None
    return database if is_mine and os.fsencode(f"sqlite:///{database}") in words else None


def is_installed() -> bool:
    """Whether this environment has what serves, not only MLflow's client."""
    return all(importlib.util.find_spec(name) is not None for name in ("mlflow", "flask", "sqlalchemy"))


def _start(folder: Path, port: int, turn: int) -> tuple[Server, subprocess.Popen[bytes]]:
    if not is_installed():
        raise EnvironmentProblem("a tracking server needs the Python package mlflow", hint=f"pip install '{EXTRA}'")
    before = _recorded(folder)
    port = _free_port(port or (before.port if before else 0), must=bool(port))
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "intermodal.tracking.server", str(folder.absolute()), str(port), str(turn)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[turn],
        )
    return Server(child.pid, start_time(child.pid) or 0, port), child


def _serve(folder: Path, port: int, turn: int) -> None:
    """Be the server: say so in `server.json`, let go of the turn, and become MLflow. The process stays the same one."""
    me = Server(os.getpid(), start_time(os.getpid()) or 0, port)
    temporary = folder / "server.json.part"
    temporary.write_text(json.dumps(vars(me)), encoding="utf-8")
    temporary.replace(folder / "server.json")
    os.close(turn)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{_database(folder)}"),
        *("--artifacts-destination", str(folder / "artifacts")),
        *("--uvicorn-opts", "--log-level warning --no-access-log"),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
    environment["PYTHONPATH"] = environment.get("PYTHONPATH", "").partition(os.pathsep)[2]  # without this package
    # No jobs of its own: seven processes that nobody here needs. No word to anybody about its use.
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.execve(sys.executable, command, environment)


def _database(folder: Path) -> Path:
    return folder.absolute() / "mlflow.db"


def _recorded(folder: Path) -> Server | None:
    try:
        return Server(**json.loads((folder / "server.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _free_port(wanted: int, *, must: bool) -> int:
    """Return the port if it is free, else any that is. Raises EnvironmentProblem if it must be that one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
            except OSError as error:
                if must:
                    raise EnvironmentProblem(f"port {port} cannot be listened on: {error.strerror}") from error
    raise AssertionError("any port can be had")


def _end(server: Server) -> None:
    """End the server's session: what it started ends with it."""
    for number, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        deadline = time.monotonic() + patience
        while server.lives and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(server.pid, os.WNOHANG)  # it may be this process's child
            time.sleep(0.05)
        if not server.lives:
            return


def _last_words(folder: Path) -> str:
    lines = (folder / "server.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _alone(folder: Path) -> contextlib.AbstractContextManager[int]:
    return alone(folder / "server.lock", "starting or stopping the local tracking server", _BIRTH + _GRACE)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

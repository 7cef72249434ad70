"""A run that is killed and gone on with, through the real command, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker

from tests.crash.pipelines import LEDGER

KILLED = -signal.SIGKILL


@dataclass
class Case:
    """One state folder, one pipeline, one backend. `folder` is the test's own; the state folder and $TMPDIR are in it."""

    folder: Path
    pipeline: Path
    backend: str
    project: Path
    arguments: dict[str, str] = field(default_factory=dict)
    _children: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.temporary.mkdir(parents=True, exist_ok=True)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    # The command

    def command(self, verb: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "intermodal", verb, "--state", str(self.state), *words]

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(Path(__file__).parents[2]), **more}

    def start(self, verb: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            self.command(verb, *words),
            cwd=self.project,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._children.append(child)
        return child

    def do(self, verb: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end, however that comes."""
        child = self.start(verb, *words, **environment)
        out, error = child.communicate(timeout=120)
        return subprocess.CompletedProcess(child.args, child.returncode, out, error)

    def running(self, *more: str) -> list[str]:
        """Return the words after `run` that run the pipeline."""
        given = [word for name, value in self.arguments.items() for word in ("--arg", f"{name}={value}")]
        return [str(self.pipeline), "--backend", self.backend, *given, *more]

    def run(self, *more: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        return self.do("run", *self.running(*more), INTERMODAL_FAULT=fault)

    def resume(self, *words: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        return self.do("resume", *words, INTERMODAL_FAULT=fault)

    def end(self) -> None:
        """Go on with the run to its green end, if it is not green already."""
        if self.recorded()["state"] != "SUCCEEDED":
            done = self.resume()
            assert done.returncode == 0, done.stderr

    def let_go(self) -> None:
        """Let the steps end that wait for it."""
        folder = self.state / "volumes" / LEDGER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go").touch()

    def wait_for(self, word: str, times: int = 1) -> None:
        """Wait until the steps have done something so often."""
        deadline = time.monotonic() + 120
        while self.ledger()[word] < times:
            assert time.monotonic() < deadline, f"{word}: {self.ledger()}"
            time.sleep(0.05)

    def close(self) -> None:
        """End what runs still: nothing, but where a test failed."""
        for child in self._children:
            child.kill()
            child.communicate()
        for row in self.query("SELECT handle FROM attempts WHERE ended IS NULL") if self.has_record() else []:
            self._end(str(row["handle"]))

    def _end(self, handle: str) -> None:
        if self.backend == "docker":
            with closing(docker.from_env().api) as client, contextlib.suppress(docker.errors.APIError):
                client.remove_container(handle, force=True)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(handle.partition(":")[0]), signal.SIGUSR1)

    # What is true now

    def has_record(self) -> bool:
        """Whether there is a database with its tables."""
        return (self.state / "intermodal.db").exists() and bool(
            self.query("SELECT * FROM sqlite_master WHERE name='attempts'")
        )

    def query(self, sql: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.state / "intermodal.db")) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    def recorded(self) -> dict[str, Any]:
        """Return the run as the record has it: there is one."""
        (row,) = self.query("SELECT * FROM runs")
        return row

    def tasks(self) -> dict[str, tuple[str, Any]]:
        """Return the state and the outputs of every task, without what differs from run to run."""
        run = self.recorded()["id"]
        return {
            row["path"]: (row["state"], json.loads(row["outputs"].replace(run, "RUN")))
            for row in self.query("SELECT path, state, outputs FROM tasks")
        }

    def ledger(self) -> Counter[str]:
        """Return how often each step did what."""
        log = self.state / "volumes" / LEDGER / "log"
        return Counter(log.read_text().splitlines() if log.exists() else [])

    def containers(self) -> list[str]:
        """Return the containers that the engine has of this state folder."""
        with closing(docker.from_env().api) as client:
            filters = {"label": f"io.intermodal.state={self.state.resolve()}"}
            return [str(item["Names"]) for item in client.containers(all=True, filters=filters)]

    def left_behind(self) -> list[str]:
        """Return what must not be left when a run is over."""
        found = [str(path) for place in ("tmp", "store/tmp") for path in (self.state / place).glob("*")]
        found += [str(path) for path in self.temporary.iterdir()]
        run = self.state / "runs" / self.recorded()["id"]
        found += [str(path) for path in run.rglob("extras")]
        found += [str(path) for path in run.rglob("launch.json")]
        for row in self.query("SELECT path, number FROM attempts WHERE failure IS NULL"):
            found += map(str, (run / "tasks" / row["path"]).glob(f"attempt-{row['number']}/outputs"))
        return found + (self.containers() if self.backend == "docker" else [])

    def check(self, expected: Expected) -> None:
        """Assert that the run is over and green, and that nothing tells that it was ever killed."""
        assert self.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert self.recorded()["state"] == "SUCCEEDED" and self.recorded()["ended"]
        assert self.tasks() == expected.tasks
        assert self.query("SELECT path, number FROM attempts WHERE ended IS NULL") == []
        numbers = "SELECT path FROM attempts GROUP BY path HAVING MIN(number) != 1 OR MAX(number) != COUNT(*)"
        assert self.query(numbers) == []
        assert {word: count for word, count in self.ledger().items() if word.endswith(" end")} == expected.ends
        assert self.left_behind() == []


@dataclass(frozen=True)
class Expected:
    """What the pipeline gives when nobody kills anything, and how often each step ends."""

    tasks: dict[str, tuple[str, Any]]
    ends: dict[str, int]
    seconds: float
    """How long the command took, a little less where the machine was busier then."""

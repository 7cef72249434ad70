"""A run that is killed and gone on with, through the real command, and what must be true of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
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
        return subprocess.Popen(
            self.command(verb, *words),
            cwd=self.project,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, verb: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end, however that comes."""
        with self.start(verb, *words, **environment) as child:
            out, error = child.communicate(timeout=300)
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

    # What is true now

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
        client = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto")
        with closing(client):
            filters = {"label": f"io.intermodal.state={self.state.resolve()}"}
            return [str(item["Names"]) for item in client.containers(all=True, filters=filters)]

    def left_behind(self) -> list[str]:
        """Return what must not be left when a run is over."""
        found = [str(path) for place in ("tmp", "store/tmp") for path in (self.state / place).iterdir()]
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
        assert {word: count for word, count in self.ledger().items() if word.endswith(" end")} == expected.ends
        assert self.left_behind() == []


@dataclass(frozen=True)
class Expected:
    """What the pipeline gives when nobody kills anything, and how often each step ends."""

    tasks: dict[str, tuple[str, Any]]
    ends: dict[str, int]
    seconds: float
    """How long the command took, a little less where the machine was busier then."""

"""Following a run that goes on elsewhere: what happens there comes into the record here, states and logs by the path of the task.

Whoever follows may die at any moment: nothing is known only here, and the next one begins with what the record says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from intermodal.backends.logs import LineSplitter
from intermodal.backends.remote.contract import Ended, Group, Look, PlaceProblem, Remote, Seen
from intermodal.backends.remote.opened import OpenRun
from intermodal.engine.artifacts import Inputs, Outputs
from intermodal.engine.database import AttemptStart
from intermodal.engine.failure import Failure
from intermodal.engine.record import Observer
from intermodal.engine.states import State
from intermodal.spec.document import canonical_json
from intermodal.spec.paths import find_component

_LOG_CAP = 64 * 2**20
_LATE_SECONDS = 60.0
"""How long after a task's end the last of its log may come."""


@dataclass(frozen=True)
class Pace:
    """How often is asked, and for how long a place may be out of reach, in seconds."""

    first: float = 1.0
    last: float = 15.0
    """Nothing new: each wait is longer than the one before, up to this."""
    patience: float = 900.0


@dataclass
class _Log:
    """A log that grows: what was brought is in the file; lines go to whoever watches."""

    file: Path
    lines: LineSplitter
    size: int = 0


@dataclass
class Follower:
    """Brings what happens to a run into its record. `stop` ends the following, never the run."""

    run: OpenRun
    remote: Remote
    observer: Observer
    pace: Pace = field(default_factory=Pace)
    stop: Event = field(default_factory=Event)
    say: Callable[[str], None] = lambda _: None
    """Told, in one line, that the place is out of reach."""

    def __post_init__(self) -> None:
        rows = self.run.database.query("SELECT path, state FROM tasks WHERE run=?", (self.run.id,))
        self._states: dict[str, State] = {row["path"]: State(row["state"]) for row in rows}
        self._logs: dict[str, _Log] = {}
        self._ended: dict[str, float] = {}
        """When the end of a task was seen, on the monotonic clock."""

    def follow(self) -> State:
        """Follow to the end and return how the run ended; RUNNING if `stop` was set before.

        Raises PlaceProblem if the place refuses, or is out of reach for longer than the pace's patience: the run goes on.
        """
        wait, reached = self.pace.first, time.monotonic()
        while not self.stop.is_set():
            try:
                new = self.once()
                reached = time.monotonic()
            except PlaceProblem as problem:
                if not problem.passing or time.monotonic() - reached > self.pace.patience:
                    raise
                self.say(f"{problem.message}; asking again")
                new = False
            if self._states.get("", State.RUNNING).final:
                return self._states[""]
            wait = self.pace.first if new else min(self.pace.last, wait * 1.5)
            self.stop.wait(wait)
        return State.RUNNING

    def once(self) -> bool:
        """Look once, record what is new, and return whether anything was.

        What cannot be had of one task does not keep the others waiting; its PlaceProblem is raised after them.
        """
        look = self.remote.look()
        new, problem = False, None
        for seen in look.tasks:
            try:
                new = self._task(seen) or new
            except PlaceProblem as met:
                problem = met
        if problem is not None:
            raise problem
        if look.state.final:
            self._conclude(look)
            return True
        return new

    def bring_logs(self) -> None:
        """Bring what is missing of the logs of a run that has ended: a place may show the last lines late. Raises PlaceProblem."""
        for seen in self.remote.look().tasks:
            if self._has_log(seen):
                self._bring_log(seen, over=True)

    # Tasks

    def _task(self, seen: Seen) -> bool:
        before = self._states.get(seen.path, State.PENDING)
        if before.final or seen.state is State.PENDING:
            return False
        if before is State.PENDING and not seen.reused:
            self._begin(seen)
        grown = bool(not seen.reused and self._bring_log(seen, over=seen.state.final))
        if seen.state.final:
            self._end(seen, self.remote.ended(seen))
        return grown or seen.state is not before

    def _begin(self, seen: Seen) -> None:
        started = seen.started or time.time()
        log = self.run.state.attempt(self.run.id, seen.path, 1) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        known = self.run.database.query("SELECT number FROM attempts WHERE run=? AND path=?", (self.run.id, seen.path))
        if not known:
            key = (self.run.id, seen.path, 1)
            values = {"state": State.RUNNING.value, "started": started}
            self.run.database.start_attempt(
                key, self._component(seen.path), values, AttemptStart(seen.image, str(log), "{}", 1, "", "")
            )
            self.run.database.set_handle(self.run.id, seen.path, 1, seen.id)
        self._states[seen.path] = State.RUNNING
        self.observer.task(seen.path, State.RUNNING, 0.0, None, "")

    def _end(self, seen: Seen, end: Ended) -> None:
        if not seen.reused:
            code = end.failure.exit_code if end.failure else (0 if end.state.green else None)
            self.run.database.end_attempt(self.run.id, seen.path, 1, code, end.failure)
        state = end.state
        started = seen.started or time.time()
        ended = max(started, seen.ended or time.time())
        values = {
            **_values(state, end.outputs, end.failure, end.reason),
            "inputs": _inputs(end.inputs) if end.inputs else None,
            "started": started,
            "ended": ended,
            "cached_from": seen.reused or None,
        }
        self._states[seen.path] = state
        self._ended[seen.path] = time.monotonic()
        if end.here:
            self._put(seen.path, values)
            note = "cached" if state is State.CACHED else end.reason
            self.observer.task(seen.path, state, ended - started, end.failure, note)
        else:
            self._forget(seen.path)

    def _put(self, path: str, values: dict[str, object]) -> None:
        self.run.database.put_task(self.run.id, path, self._component(path), values)

    def _forget(self, path: str) -> None:
        """Take a task off the record: a group around it was decided about, as in a local run."""
        with self.run.database.transaction() as connection:
            for table in ("attempts", "tasks"):
                connection.execute(f"DELETE FROM {table} WHERE run=? AND path=?", (self.run.id, path))

    def _component(self, path: str) -> str:
        return find_component(self.run.pipeline, path)[0].name

    # Logs

    def _has_log(self, seen: Seen) -> bool:
        """Whether a task's log is one of this run, and of a task that is on record."""
        return (
            not seen.reused
            and self._states.get(seen.path, State.PENDING) is not State.PENDING
            and (self.run.state.attempt(self.run.id, seen.path, 1).is_dir())
        )

    def _bring_log(self, seen: Seen, *, over: bool) -> bool:
        """Bring what a task wrote since the last time; return whether there was anything."""
        log = self._logs.get(seen.path)
        if log is None:
            file = self.run.state.attempt(self.run.id, seen.path, 1) / "log.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            size = file.stat().st_size if file.is_file() else 0
            lines = LineSplitter(lambda line, path=seen.path: self.observer.line(path, line))  # type: ignore[misc]
            log = self._logs[seen.path] = _Log(file, lines, size)
        data = self.remote.log(seen, log.size) if log.size < _LOG_CAP else b""
        if data:
            with log.file.open("ab") as stream:
                stream.write(data)
            log.size += len(data)
            log.lines.feed(data)
        elif not log.file.exists():
            log.file.touch()
        if over:
            log.lines.close()
        return bool(data)

    # The end

    def _conclude(self, look: Look) -> None:
        for seen in look.tasks:
            if self._has_log(seen) and time.monotonic() - self._ended.get(seen.path, 0.0) < _LATE_SECONDS:
                self._bring_log(seen, over=True)
        outcome = self.remote.outcome(look)
        for group in outcome.groups:
            self._group(group)
        self.run.database.end_run(self.run.id, outcome.state.value, outcome.outputs)
        self._states[""] = outcome.state

    def _group(self, group: Group) -> None:
        if self._states.get(group.path, State.PENDING).final:
            return
        now = time.time()
        inside = self.run.database.query(
            "SELECT min(started) AS first, max(ended) AS last FROM tasks WHERE run=? AND path LIKE ? ESCAPE '\\'",
            (self.run.id, _below(group.path)),
        )[0]
        started, ended = inside["first"] or now, inside["last"] or now
        values = {
            **_values(group.state, group.outputs, group.failure, group.reason),
            "started": started,
            "ended": ended,
        }
        self._states[group.path] = group.state
        self._put(group.path, values)
        self.observer.task(group.path, group.state, ended - started, group.failure, group.reason)


def _values(state: State, outputs: Outputs, failure: Failure | None, reason: str) -> dict[str, object]:
    return {
        "state": state.value,
        "outputs": canonical_json(outputs.as_json()),
        "failure_class": failure.kind.value if failure else None,
        "failure": failure.message if failure else None,
        "exit_code": failure.exit_code if failure else None,
        "reason": reason or None,
    }


def _inputs(inputs: Inputs) -> str:
    artifacts = {name: [item.as_json() for item in items] for name, items in inputs.artifacts.items()}
    return canonical_json({"parameters": dict(inputs.parameters), "artifacts": artifacts})


def _below(path: str) -> str:
    """Return the pattern of SQL's LIKE for the paths below one."""
    return "".join(f"\\{character}" if character in "\\%_" else character for character in path) + "/%"

"""Several workers on one study, as real processes on the storages that there are: what happens once, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from components.hpo.storage import URL, open_journal, open_place
from components.hpo.study import HYPERPARAMETERS, LEASE, RETRY, counted, lose, overdue
from components.tracking_file import VARIABLE as TRACKING
from tests.components.hpo.sleeper import NAME
from tests.support.postgres import postgres

ROOT = Path(__file__).parents[3]


class Team:
    """Workers on one storage."""

    def __init__(self, state: Path, url: str) -> None:
        self.state = state
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), TRACKING: str(state / "told")} | ({URL: url} if url else {})
        self._url = url
        self.children: list[subprocess.Popen[str]] = []

    def start(self, name: str, **given: Any) -> subprocess.Popen[str]:
        """Start a worker (`sleeper.main` says what may be given)."""
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.components.hpo.sleeper",
                json.dumps({"state": str(self.state), "name": name, **given}),
            ],
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.children.append(child)
        return child

    def ready(self, child: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Return it once it has the study open."""
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line == "ready\n", line + child.stdout.read()
        return child

    def go(self, *children: subprocess.Popen[str]) -> None:
        """Let workers that wait begin all at once; return once all are done."""
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            assert child.wait(60) == 0

    def stopped(self, child: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Return it once it has stopped itself."""
        found = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None and found.si_code == os.CLD_STOPPED
        return self.ready(child)

    def go_on(self, child: subprocess.Popen[str]) -> str:
        """Let one that has stopped go on, and return what it says until its end."""
        child.send_signal(signal.SIGCONT)
        said = child.communicate(timeout=60)[0]
        assert child.returncode == 0, said
        return said

    def trials(self) -> list[FrozenTrial]:
        with open_place(self.state, NAME, self._url, sole=False, bury=lambda storage: None) as place:
            return optuna.load_study(study_name=NAME, storage=place.storage).get_trials()


@pytest.fixture(scope="module")
def server() -> Iterator[Callable[[], str]]:
    """Gives the address of a database of its own on one PostgreSQL."""
    import psycopg

    with postgres() as url:
        made: list[str] = []

        def fresh() -> str:
            made.append(f"study{len(made)}")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {made[-1]}")
            return url.replace("/postgres", f"/{made[-1]}")

        yield fresh


@pytest.fixture(params=["journal", "postgres"])
def team(request: pytest.FixtureRequest, tmp_path: Path, server: Callable[[], str]) -> Iterator[Team]:
    with _team(tmp_path, server() if request.param == "postgres" else "") as found:
        yield found


@contextmanager
def _team(state: Path, url: str) -> Iterator[Team]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = Team(state, url)
    yield found
    for child in found.children:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()


def test_workers_share_a_budget_and_never_a_point(team: Team):
    """Four workers on a space of eight points and a budget of six: six trials, six points, however they fall together."""
    space = {"batch_size": {"type": "choice", "values": [1, 2, 4, 8, 16, 32, 64, 128]}}
    children = [team.start(str(name), trials=6, seconds=0.1, space=space, wait=True) for name in range(4)]
    for child in children:
        team.ready(child)
    team.go(*children)
    trials = counted(team.trials())
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    assert len({trial.params["batch_size"] for trial in trials}) == 6
    told = [json.loads(line) for line in (team.state / "told").read_text().splitlines()]
    for trial in trials:
        mine = [line for line in told if line["trial"] == trial.number]
        assert [line["state"] for line in mine if "state" in line] == ["RUNNING", "COMPLETE"]
        assert mine[0]["params"] == trial.params and mine[0]["study"] == NAME
        assert [line["step"] for line in mine if "step" in line] == [1, 2]
        assert mine[-1]["metrics"] == {"macro_f1": trial.value}
    workers = {trial.user_attrs[LEASE][0] for trial in trials}
    assert len(workers) > 1, "one worker had all: the test shows nothing"


def test_a_single_point_of_a_space_without_end_is_run_once(tmp_path: Path):
    """The one point without a dropout is the best by far, so TPE draws it again and again."""
    space = {
        "batch_size": {"type": "choice", "values": [4, 8]},
        "dropout": {"type": "uniform", "min": 0, "max": 0.5, "when": {"batch_size": 4}},
    }
    with _team(tmp_path, "") as team:
        children = [team.start(str(name), trials=16, seconds=0, space=space) for name in range(2)]
        for child in children:
            team.ready(child)
            said = child.communicate(timeout=60)[0]
            assert child.returncode == 0, said
        trials = counted(team.trials())
    assert len(trials) == 16
    assert len({json.dumps(trial.params) for trial in trials}) == 16


def test_workers_stop_when_a_space_has_no_more_points(tmp_path: Path):
    """Numbers that are rounded to a grid look endless to Optuna; the same hyperparameters are the same point all the same."""
    space = {"dropout": {"type": "qloguniform", "min": 0.1, "max": 0.3, "q": 0.1}}
    with _team(tmp_path, "") as team:
        worker = team.ready(team.start("one", trials=9, seconds=0, space=space))
        assert "ran 3" in worker.communicate(timeout=60)[0]
        assert sorted(trial.user_attrs[HYPERPARAMETERS]["dropout"] for trial in counted(team.trials())) == [
            0.1,
            0.2,
            0.3,
        ]


def test_four_workers_take_a_quarter_of_the_time(tmp_path: Path):
    """`make bench NAMES=workers` measures the factor; here it is only shown that workers do not wait for each other."""
    with _team(tmp_path, "") as team:
        children = [team.start(str(name), trials=12, seconds=1, sampler="random", wait=True) for name in range(4)]
        for child in children:
            team.ready(child)
        team.go(*children)
        trials = counted(team.trials())
    assert len(trials) == 12
    took = (max(_ends(trials)) - min(_starts(trials))).total_seconds()
    alone = sum((end - start).total_seconds() for start, end in zip(_starts(trials), _ends(trials), strict=True))
    assert alone / took > 2.5, f"{alone:.2f} s of trials in {took:.2f} s"


def _starts(trials: list[FrozenTrial]) -> list[datetime]:
    return [trial.datetime_start for trial in trials if trial.datetime_start]


def _ends(trials: list[FrozenTrial]) -> list[datetime]:
    return [trial.datetime_complete for trial in trials if trial.datetime_complete]


def test_a_killed_workers_trial_is_retried_once_by_who_lives(team: Team):
    victim = team.ready(team.start("victim", trials=2, seconds=600))
    _wait_for(lambda: _running(team))
    victim.kill()
    victim.wait()
    # On a volume the kernel says at once that nobody works on the study; a database learns it when the lease has run out.
    _wait_for(lambda: all(overdue(trial) for trial in team.trials()))
    lone = team.ready(team.start("survivor", trials=2, seconds=600))
    # A second death on the same point: it is not tried a third time.
    _wait_for(
        lambda: [trial for trial in team.trials() if RETRY in trial.user_attrs and HYPERPARAMETERS in trial.user_attrs]
    )
    lone.kill()
    lone.wait()
    last = team.ready(team.start("last", trials=2, seconds=0.1))
    assert last.wait(60) == 0
    states = [(trial.state, trial.user_attrs.get(RETRY), "interrupted" in trial.user_attrs) for trial in team.trials()]
    assert states == [
        (TrialState.FAIL, None, True),
        (TrialState.FAIL, 0, False),
        (TrialState.COMPLETE, None, False),
    ]
    first, second, third = team.trials()
    assert first.params == second.params != third.params


def test_a_point_that_was_already_given_on_is_not_given_on_twice(tmp_path: Path):
    """As after a kill between the two writes: its point waits for a worker already, and it still runs."""
    storage = open_journal(tmp_path)
    study = optuna.create_study(storage=storage, study_name=NAME)
    trial = study.ask()
    trial.suggest_float("dropout", 0, 1)
    study.enqueue_trial(trial.params, user_attrs={RETRY: 0})
    for _ in range(2):  # and a worker that was told of its death twice
        lose(study, study.get_trials()[0])
    first, second = study.get_trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.WAITING)


def test_the_time_of_a_study_is_the_same_in_all_time_zones(tmp_path: Path):
    with _team(tmp_path, "") as team:
        team.ready(team.start("west", trials=2, seconds=600, zone="W+5"))
        _wait_for(lambda: _running(team))
        team.ready(team.start("east", trials=2, seconds=0.1, zone="E-5", search={"minutes": 10}))
        _wait_for(lambda: [trial for trial in team.trials() if trial.state == TrialState.COMPLETE])


def test_a_worker_goes_on_when_the_database_drops_its_connections(tmp_path: Path, server: Callable[[], str]):
    import psycopg

    url = server()
    with _team(tmp_path, url) as team:
        worker = team.ready(team.start("one", trials=1, seconds=2))
        _wait_for(lambda: _running(team))
        with psycopg.connect(url, autocommit=True) as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
            assert len(connection.execute(others).fetchall()) >= 1
        said = worker.communicate(timeout=60)[0]
        assert worker.returncode == 0, said
        assert [trial.state for trial in team.trials()] == [TrialState.COMPLETE]


def test_a_worker_that_was_held_up_gives_its_trial_up(team: Team):
    """Stopped for longer than its lease, it finds its trial with another, and drops what it has."""
    held = team.stopped(team.start("held", trials=1, seconds=0.5, stop="trial"))
    other = team.ready(team.start("other", trials=1, seconds=0.1))
    assert other.wait(60) == 0
    said = team.go_on(held)
    assert "another worker has its point" in said
    assert [trial.state for trial in team.trials()] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_worker_that_stands_still_in_its_turn_loses_it_on_a_database(tmp_path: Path, server: Callable[[], str]):
    with _team(tmp_path, server()) as team:
        held = team.stopped(team.start("held", trials=1, seconds=0.1, stop="turn"))
        other = team.ready(team.start("other", trials=1, seconds=0.1))
        assert other.wait(60) == 0
        said = team.go_on(held)
        assert "held up for longer than the lease" in said and "ran 0" in said
        first, second = team.trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.params == second.params


def test_who_waits_for_one_that_stands_still_on_the_volume_is_told(tmp_path: Path):
    with _team(tmp_path, "") as team:
        held = team.stopped(team.start("held", trials=1, seconds=0.1, stop="turn"))
        other = team.start("other", trials=1, seconds=0.1)
        assert other.stdout is not None
        assert "is it stopped or paused?" in other.stdout.readline()
        team.go_on(held)
        team.ready(other)
        assert other.wait(60) == 0
        states = [trial.state for trial in team.trials()]
    # Whichever of the two comes first once the turn is free: the lease of the trial may have run out.
    assert states in ([TrialState.COMPLETE], [TrialState.FAIL, TrialState.COMPLETE])


def test_no_trial_begins_when_the_time_is_over(team: Team):
    assert team.ready(team.start("one", trials=1000, seconds=0.2, search={"minutes": 1 / 60})).wait(60) == 0
    trials = team.trials()
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert 2 <= len(trials) <= 6


def test_a_database_that_cannot_be_reached_is_one_line_without_its_password(tmp_path: Path):
    from components.kfp_io import StepError

    for url, words in (
        ("postgresql://me:hush@127.0.0.1:1/none", "cannot be used"),
        ("mysql://me:hush@127.0.0.1/none", "no address of a PostgreSQL"),
        ("postgresql://me:hush@127.0.0.1:port/none", "cannot be used"),
    ):
        with (
            pytest.raises(StepError, match=words) as caught,
            open_place(tmp_path, NAME, url, sole=True, bury=lambda storage: None),
        ):
            pass
        assert "hush" not in f"{caught.value.message} {caught.value.hint}"


def _running(team: Team) -> bool:
    path = team.state / NAME / "journal.log"
    if not team._url and not path.exists():
        return False
    try:
        return any(trial.state == TrialState.RUNNING and HYPERPARAMETERS in trial.user_attrs for trial in team.trials())
    except KeyError:
        return False  # there is no study yet


def _wait_for(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)

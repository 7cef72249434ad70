"""What `resume` takes over, what it does again, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from contextlib import closing

import docker
import pytest

from tests.crash import pipelines
from tests.crash.case import KILLED, Case

BACKENDS = ["process", pytest.param("docker", marks=pytest.mark.engine)]


def states(case: Case) -> dict[str, str]:
    return {path.rpartition("/")[2]: state for path, (state, _) in case.tasks().items()}


def killed_while_loading(case: Case) -> None:
    """Kill the runner of the pipeline `heavy` while its second step waits."""
    child = case.start("run", *case.running())
    case.wait_for("load begin")
    child.kill()
    child.communicate()


def check_ended(case: Case, **ends: int) -> None:
    assert case.recorded()["state"] == "SUCCEEDED"
    assert {word: count for word, count in case.ledger().items() if word.endswith(" end")} == {
        f"{name} end": count for name, count in ends.items()
    }
    assert case.left_behind() == []


# A run that failed


def test_what_failed_and_what_came_of_it_runs_again(make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.mend)
    done = case.run()
    assert done.returncode == 1
    wanted = {"light": "SUCCEEDED", "fragile": "FAILED", "follow": "SKIPPED", "clean": "SUCCEEDED", "tell": "SUCCEEDED"}
    assert states(case) == {**wanted, "exit-handler-1": "FAILED"}
    assert case.tasks()["tell"][1]["parameters"]["out"] == "FAILED"
    case.let_go()
    done = case.resume()
    assert done.returncode == 0, done.stderr
    assert case.tasks()["tell"][1]["parameters"]["out"] == "COMPLETE"
    assert "light SUCCEEDED" in done.stderr and "[done before]" in done.stderr
    check_ended(case, light=1, fragile=1, follow=1, clean=2, tell=2)


@pytest.mark.parametrize("point", ["attempt:committed", "task:finished"])
def test_an_exit_task_tells_the_truth_though_its_runner_was_killed_before_it_ran_again(point, make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.mend)
    assert case.run().returncode == 1
    case.let_go()
    assert case.resume(fault=point).returncode == KILLED
    fragile = "exit-handler-1/fragile"  # is green now; `clean` and `tell` are too, but tell of its failure
    assert {case.tasks()[path][0] for path in (fragile, "exit-handler-1/clean", "tell")} == {"SUCCEEDED"}
    assert case.resume().returncode == 0
    assert case.tasks()["tell"][1]["parameters"]["out"] == "COMPLETE"
    check_ended(case, light=1, fragile=1, follow=1, clean=2, tell=2)


def test_a_failure_that_lasts_is_told_again(make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.mend)
    assert case.run().returncode == 1
    assert case.resume().returncode == 1
    assert case.ledger()["fragile begin"] == 2 and case.ledger()["light end"] == 1
    assert states(case)["follow"] == "SKIPPED" and states(case)["tell"] == "SUCCEEDED"
    numbers = case.query("SELECT number, failure_class FROM attempts WHERE path LIKE '%fragile' ORDER BY number")
    assert [tuple(row.values()) for row in numbers] == [(1, "user_code"), (2, "user_code")]


# A run that somebody stopped


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_ctrl_c(backend, make_case, tmp_path):
    case = make_case(backend, tmp_path, pipelines.heavy)
    child = case.start("run", *case.running())
    case.wait_for("load begin")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert states(case) == {"light": "SUCCEEDED", "load": "CANCELLED"}
    case.let_go()
    assert case.resume().returncode == 0
    check_ended(case, light=1, load=1)


def test_after_its_time_was_over_it_has_that_time_again(make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.heavy)
    done = case.run("--timeout", "5s")
    assert done.returncode == 1 and "timeout: the run took longer than 5 s" in done.stderr
    case.let_go()
    assert case.resume().returncode == 0
    check_ended(case, light=1, load=1)


# A run that goes on


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_living_step_is_adopted(backend, make_case, tmp_path):
    case = make_case(backend, tmp_path, pipelines.heavy)
    killed_while_loading(case)
    shown = case.do("show")
    assert "INTERRUPTED" in shown.stdout.splitlines()[0] and "intermodal resume" in shown.stdout
    assert re.search(r"INTERRUPTED +load", shown.stdout) and "RUNNING" not in shown.stdout
    assert json.loads(case.do("show", "--json").stdout)["state"] == "INTERRUPTED"
    child = case.start("resume")
    assert json.loads(wait_until_running(case))["state"] == "RUNNING"
    case.let_go()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 0 and "load RUNNING [adopted]" in error
    check_ended(case, light=1, load=1)
    assert case.ledger()["load begin"] == 1


def wait_until_running(case: Case) -> str:
    while True:
        line = case.do("runs", "--json").stdout
        if "INTERRUPTED" not in line:
            return line


def test_one_runner_at_a_time(make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.heavy)
    child = case.start("run", *case.running())
    case.wait_for("load begin")
    done = case.resume()
    assert done.returncode == 2
    assert f"is going on in process {child.pid}" in done.stderr and done.stderr.count("\n") == 2
    assert "RUNNING" in case.do("runs").stdout
    case.let_go()
    child.communicate(timeout=60)
    assert child.returncode == 0
    done = case.resume(case.recorded()["id"])
    assert done.returncode == 0 and "has succeeded already" in done.stdout
    check_ended(case, light=1, load=1)


def test_cached_tasks_stay_cached(make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.mend)
    case.let_go()
    assert case.run().returncode == 0
    assert case.run(fault="task:finished:3").returncode == KILLED
    assert case.resume().returncode == 0
    (second,) = case.query("SELECT id, state FROM runs ORDER BY started DESC LIMIT 1")
    tasks = case.query(f"SELECT path, state, cached_from FROM tasks WHERE run='{second['id']}'")
    leaves = {row["path"].rpartition("/")[2]: row["state"] for row in tasks if not row["path"].endswith("handler-1")}
    assert leaves.pop("tell") == "SUCCEEDED"  # it is given the name of the run
    assert set(leaves.values()) == {"CACHED"} and len(leaves) == 4
    assert case.ledger()["light end"] == 1


# What is not as it was


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_the_machine_was_started_anew(backend, make_case, tmp_path):
    """What ran before may not have reached the disk, whatever it looks like: it ends, and the step runs again."""
    case = make_case(backend, tmp_path, pipelines.heavy)
    killed_while_loading(case)
    with closing(sqlite3.connect(case.state / "intermodal.db")) as connection, connection:
        connection.execute("UPDATE attempts SET boot='that of yesterday'")
    child = case.start("resume")
    case.wait_for("load begin", 2)
    case.let_go()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 0 and "the machine was started anew since" in error
    check_ended(case, light=1, load=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_attempt_that_was_lost_and_lives_after_all_is_ended(backend, make_case, tmp_path):
    """Two attempts of a task never work at once, though the record thinks that the first is over."""
    case = make_case(backend, tmp_path, pipelines.heavy)
    killed_while_loading(case)
    with closing(sqlite3.connect(case.state / "intermodal.db")) as connection, connection:
        connection.execute(
            "UPDATE attempts SET ended=started, failure_class='engine_lost', failure='' WHERE ended IS NULL"
        )
    child = case.start("resume")
    case.wait_for("load begin", 2)
    case.let_go()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 0, error
    check_ended(case, light=1, load=1)


@pytest.mark.engine
def test_after_the_containers_are_gone(make_case, tmp_path):
    case = make_case("docker", tmp_path, pipelines.heavy)
    killed_while_loading(case)
    with closing(docker.from_env()) as client:
        for container in client.containers.list(
            filters={"label": f"io.intermodal.state={case.state.resolve()}"}, ignore_removed=True
        ):
            container.remove(force=True)
    case.let_go()
    done = case.resume()
    assert done.returncode == 0 and "what ran it is gone" in done.stderr
    check_ended(case, light=1, load=1)


@pytest.mark.engine
def test_a_step_that_was_killed_while_nobody_looked_runs_again(make_case, tmp_path):
    case = make_case("docker", tmp_path, pipelines.heavy)
    killed_while_loading(case)
    with closing(docker.from_env()) as client:
        for container in client.containers.list(
            filters={"label": f"io.intermodal.state={case.state.resolve()}"}, ignore_removed=True
        ):
            container.kill()
    case.let_go()
    assert case.resume().returncode == 0
    check_ended(case, light=1, load=1)


@pytest.fixture
def tag():
    """A tag of the test's own on the base image; returns a function that moves it to an image with other content, or off."""
    client = docker.from_env()
    name = "intermodal-test/crash"
    client.images.get("intermodal/base:dev").tag(name, "dev")

    def move(content: str | None) -> None:
        client.images.remove(f"{name}:dev")
        if content is not None:
            container = client.containers.create("intermodal/base:dev", ["true"])
            container.commit(name, "dev", changes=f"ENV CONTENT={content}")
            container.remove()

    yield f"{name}:dev", move
    if client.images.list(name):
        client.images.remove(f"{name}:dev", force=True)
    client.close()


@pytest.mark.engine
def test_an_image_that_changed_or_is_gone(make_case, tag, tmp_path):
    """A living step of the old image is no step of the new one; without any image nothing goes on."""
    name, move = tag
    case = make_case("docker", tmp_path, lambda _: pipelines.heavy(name))
    killed_while_loading(case)
    move(None)
    done = case.resume()
    assert done.returncode == 3 and name in done.stderr and done.stderr.count("\n") <= 3
    assert "INTERRUPTED" in case.do("runs").stdout
    client = docker.from_env()
    client.images.get("intermodal/base:dev").tag("intermodal-test/crash", "dev")
    client.close()
    move("new")
    child = case.start("resume")
    case.wait_for("load begin", 2)
    case.let_go()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 0 and "its image or inputs have changed since" in error
    check_ended(case, light=1, load=1)


def test_the_runs_own_pipeline_holds_and_must_be_its_own(make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.heavy)
    own = tmp_path / "mine.yaml"
    own.write_text(case.pipeline.read_text())
    case.pipeline = own
    killed_while_loading(case)
    own.write_text("nothing: at all\n")
    kept = case.state / "runs" / case.recorded()["id"] / "pipeline.yaml"
    good = kept.read_text()
    kept.write_text(good.replace("light", "lihgt"))
    done = case.resume()
    assert done.returncode == 2 and "is not the pipeline that it ran" in done.stderr
    kept.write_text(good)
    case.let_go()
    assert case.resume().returncode == 0
    check_ended(case, light=1, load=1)


@pytest.mark.parametrize("damage", ["removed", "changed"])
def test_an_artifact_that_was_spoilt_is_made_again(damage, make_case, tmp_path):
    case = make_case("process", tmp_path)
    assert case.run(fault="task:finished:9").returncode == KILLED
    (made,) = case.query("SELECT outputs FROM tasks WHERE path LIKE '%/make'")
    digest = json.loads(made["outputs"])["artifacts"]["data"][0]["digest"]
    spoilt = case.state / "store" / digest[:2] / digest / "data" / "a"
    if damage == "changed":
        spoilt.chmod(0o644)
        spoilt.write_text("b" * 1000)
    else:
        spoilt.unlink()
    done = case.resume()
    assert done.returncode == 0, done.stderr
    assert "running again" in done.stderr
    assert case.ledger()["make end"] == 2
    assert spoilt.read_text() == "a" * 1000


# Secrets


@pytest.mark.parametrize("point", ["attempt:prepared", "attempt:recorded", "attempt:handle", "attempt:ended"])
def test_secrets_are_given_again_and_never_left(point, make_case, tmp_path):
    case = make_case("process", tmp_path, pipelines.secret)
    (case.state / "secrets" / "vault").mkdir(parents=True)
    (case.state / "secrets" / "vault" / "token").write_text("open sesame")
    case.let_go()
    assert case.run(fault=point).returncode == KILLED
    assert case.resume().returncode == 0
    check_ended(case, user=1)
    holders = [
        path
        for path in case.state.rglob("*")
        if path.is_file() and not path.is_relative_to(case.state / "secrets") and b"open sesame" in path.read_bytes()
    ]
    assert holders == []

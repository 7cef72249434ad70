"""The command and a workspace: a run is sent, followed, left alone, gone on with, cancelled and fetched, over the wire."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.rest import HttpRequest

from intermodal.backends.azureml import submission
from intermodal.backends.azureml.bodies import Workspace
from intermodal.backends.azureml.cloud import Cloud, connect
from intermodal.backends.azureml.emulator.emulate import emulating
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.emulator.faults import Fault
from intermodal.backends.azureml.emulator.plane import Plane
from intermodal.backends.azureml.service import Service
from intermodal.backends.azureml.storage import split_uri
from intermodal.errors import BadInput
from tests.support.azurite import TOOLS
from tests.support.command import Command
from tests.support.host import HostBackend

PIPELINE = """
from kfp import dsl

@dsl.container_component
def say(text: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c",
        'echo "saying $0"; mkdir -p "$(dirname "$1")"; printf %s "$0" > "$1"'], args=[text, out])

@dsl.container_component
def make(text: str, data: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c",
        'mkdir -p "$1/deep" "$1/empty"; printf %s "$0" > "$1/deep/file"'], args=[text, data.path])

@dsl.container_component
def read(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c",
        'mkdir -p "$(dirname "$1")"; cat "$0/deep/file" > "$1"'], args=[data.path, out])

@dsl.container_component
def copy(data: dsl.Input[dsl.Dataset], to: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c",
        'mkdir -p "$(dirname "$1")"; cp -r "$0" "$1"'], args=[data.path, to.path])

@dsl.container_component
def sleep(seconds: int):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'echo sleeping; exec sleep "$0"'], args=[seconds])

@dsl.container_component
def fail(code: int):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'echo "it is broken" >&2; exit "$0"'], args=[code])

@dsl.pipeline(name="trial")
def trial(text: str = "hello", count: int = 2) -> str:
    made = make(text=text)
    with dsl.ParallelFor(["a", "b"]) as item:
        say(text=item)
    with dsl.If(count == 3):
        say(text="three")
    return read(data=made.outputs["data"]).outputs["out"]

@dsl.pipeline(name="given")
def given(data: dsl.Input[dsl.Dataset]) -> dsl.Dataset:
    return copy(data=data).outputs["to"]

@dsl.pipeline(name="wide")
def wide():
    for _ in range(30):
        say(text="x")

@dsl.pipeline(name="one")
def one() -> str:
    return say(text="once").outputs["out"]

@dsl.pipeline(name="slow")
def slow(seconds: int = 120):
    sleep(seconds=seconds)

@dsl.pipeline(name="broken")
def broken():
    say(text="first").after(fail(code=7))
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("workspace")
    with emulating(folder, HostBackend(), Options(cores=4), tools=TOOLS) as plane:
        yield plane


@pytest.fixture
def intermodal(tmp_path: Path, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in a project of its own, with the emulator for AzureML."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text("")
    (tmp_path / "project" / "p.py").write_text(PIPELINE)
    monkeypatch.setenv("INTERMODAL_EMULATOR", str(plane.folder))
    monkeypatch.setenv("INTERMODAL_BACKEND", "host")
    return Command(tmp_path / "project", tmp_path / "state")


def _rows(intermodal: Command, *words: str) -> dict[str, Any]:
    return json.loads(intermodal.text("show", "--json", *words))


def _tasks(shown: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of each task that does not depend on where and when it ran."""
    return {
        row["path"]: (
            row["state"],
            row["reason"] if row["state"] == "SKIPPED" else "",
            row["outputs"]["parameters"],
            {name: [item["digest"] for item in items] for name, items in row["outputs"]["artifacts"].items()},
            (row["inputs"] or {}).get("parameters"),
            {name: [x["digest"] for x in items] for name, items in (row["inputs"] or {}).get("artifacts", {}).items()},
        )
        for row in shown["tasks"]
    }


def test_a_run_there_leaves_the_record_that_a_run_here_leaves(intermodal: Command):
    local = intermodal("run", "p.py", "--pipeline", "trial", "--arg", "text=it's $HOME")
    assert local.returncode == 0, local
    here = _rows(intermodal)
    done = intermodal("submit", "p.py", "--pipeline", "trial", "--arg", "text=it's $HOME", "--wait")
    assert done.returncode == 0, done
    assert b"| for-loop-2/0/say: saying a" in done.stderr
    assert b"note: its page: https://" in done.stderr
    assert b"condition-3 SKIPPED" in done.stderr
    there = _rows(intermodal)
    assert (there["backend"], there["state"]) == ("azureml", "SUCCEEDED")
    assert there["outputs"]["parameters"] == here["outputs"]["parameters"] == {"Output": "it's $HOME"}
    fetched = json.loads(intermodal.text("fetch", "--json"))
    assert fetched["artifacts"] == 1 and fetched["bytes"] == len("it's $HOME")
    assert json.loads(intermodal.text("fetch", "--json"))["artifacts"] == 0  # all of it is here
    assert _tasks(_rows(intermodal)) == _tasks(here)
    assert intermodal.text("logs", "for-loop-2/1/say").splitlines()[0] == "saying b"
    assert "6 tasks, 6 the same" in intermodal.text("diff", here["id"], there["id"])
    assert "azureml" in intermodal.text("runs").splitlines()[0]
    report = intermodal.state / "runs" / there["id"] / "report.html"
    assert "for-loop-2/0/say" in report.read_text()
    assert intermodal.text("verify")
    again = intermodal("replay", "make")
    assert (again.returncode, b"went on in azureml" in again.stderr) == (2, True)
    wrong = intermodal("run", "p.py", "--pipeline", "trial", "--backend", "azureml")
    assert (wrong.returncode, b"intermodal submit PIPELINE --backend azureml" in wrong.stderr) == (2, True)


def test_a_failed_task_is_named_with_the_end_of_its_log(intermodal: Command):
    done = intermodal("submit", "p.py", "--pipeline", "broken", "--wait")
    assert done.returncode == 1
    out = done.stdout.decode()
    assert "fail: user_code: 'sh' exited with code 7" in out
    assert "it is broken" in out
    shown = _rows(intermodal)
    assert {row["path"]: row["state"] for row in shown["tasks"]} == {"fail": "FAILED", "say": "SKIPPED"}
    assert shown["tasks"][0]["exit_code"] == 7


def test_nodes_of_one_shape_cost_one_request_of_each_kind(intermodal: Command, plane: Plane, tmp_path: Path):
    (intermodal.folder / "p.py").write_text(PIPELINE.replace('image="shell"', 'image="counted"'))
    requests: list[tuple[str, str]] = []

    class Counting(Service):
        def _send(self, request: HttpRequest, **options: Any) -> Any:
            requests.append((request.method, request.url.partition("?")[0].partition("/workspaces/")[2]))
            return super()._send(request, **options)

    def puts() -> Counter[str]:
        found = Counter(path.split("/")[1] for method, path in requests if method in ("PUT", "POST") and "/" in path)
        requests.clear()
        return found

    original, submission.Service = submission.Service, Counting  # type: ignore[misc]
    try:
        assert intermodal("submit", "p.py", "--pipeline", "wide").returncode == 0
        first = puts()
        assert intermodal("submit", "p.py", "--pipeline", "wide").returncode == 0
        second = puts()
    finally:
        submission.Service = original  # type: ignore[misc]
    assert first - Counter(codes=2) == {"environments": 1, "components": 1, "jobs": 1}
    assert second == {"jobs": 1}


def test_data_goes_up_once_by_its_content(intermodal: Command, plane: Plane):
    folder = intermodal.folder / "some.data"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("content")
    words = ("submit", "p.py", "--pipeline", "given", "--wait", "--arg")
    assert intermodal(*words, f"data={folder}").returncode == 0
    intermodal.text("fetch")
    first = _rows(intermodal)
    place = json.loads(first["request"])["place"]["uploads"][0]
    (made,) = (intermodal.state / "runs" / first["id"] / "outputs").glob("Output")
    assert (made / "deep" / "file").read_text() == "content"
    moved = folder.rename(intermodal.folder / "other")
    assert intermodal(*words, f"data={moved}").returncode == 0
    second = json.loads(_rows(intermodal)["request"])["place"]["uploads"][0]
    assert (second["digest"], second["path"]) == (place["digest"], place["path"])


def test_content_that_is_not_what_its_task_wrote_is_not_fetched(intermodal: Command, plane: Plane):
    assert intermodal("submit", "p.py", "--pipeline", "trial", "--wait").returncode == 0
    made = next(row for row in _rows(intermodal)["tasks"] if row["path"] == "make")
    (artifact,) = made["outputs"]["artifacts"]["data"]
    assert artifact["digest"] == ""
    store, path = split_uri(f"{artifact['uri']}/deep/file")
    plane.blobs.write(plane.space.place(store, path), b"hell0")
    done = intermodal("fetch")
    assert done.returncode == 3
    assert b"make: artifact 'data' at azureml://" in done.stderr and b"its digest is another" in done.stderr


def test_what_is_missing_is_said_before_anything_is_sent(
    intermodal: Command, plane: Plane, monkeypatch: pytest.MonkeyPatch
):
    before = len(list(plane.records.assets("codes")))
    monkeypatch.delenv("INTERMODAL_EMULATOR")
    done = intermodal("submit", "p.py", "--pipeline", "wide")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[0] == (
        "error: [tool.intermodal.azureml] lacks subscription, resource_group, workspace"
    )
    cloud, credential = connect({}, plane.folder)
    remote = Cloud(cloud.management, cloud.resource, cloud.authority, cloud.blobs)  # as if it were no emulator
    identity = plane.identity
    workspace = Workspace(identity.subscription, identity.group, identity.workspace)
    with Service(workspace, remote, credential) as service, pytest.raises(BadInput, match="image shell has no digest"):
        _submit(intermodal, service)
    nowhere = Workspace(identity.subscription, identity.group, "nowhere")
    with (
        Service(nowhere, cloud, credential) as service,
        pytest.raises(Exception, match="no AzureML workspace 'nowhere'"),
    ):
        service.about()
    assert len(list(plane.records.assets("codes"))) == before


def _submit(intermodal: Command, service: Service) -> None:
    import argparse

    from intermodal.backends.azureml.requests import compile_wanted, read_wanted
    from intermodal.engine.database import Database
    from intermodal.engine.layout import StateFolder

    args = argparse.Namespace(
        pipeline=intermodal.folder / "p.py", name="wide", config=None, arg=[], accept=[], state=intermodal.state,
        success_word="COMPLETE",
    )  # fmt: skip
    wanted = read_wanted(args, {})
    state = StateFolder.at(intermodal.state)
    submission.submit(wanted, lambda it: compile_wanted(it, args, {}), service, state, Database(state.database), print)


def test_a_run_goes_on_without_its_laptop_and_is_cancelled_from_another(intermodal: Command, plane: Plane):
    sent = intermodal("submit", "p.py", "--pipeline", "slow", "--json")
    assert sent.returncode == 0, sent
    run = json.loads(sent.stdout)["run"]
    assert "RUNNING" in intermodal.text("runs")
    follower = _start(intermodal, "resume", run)
    _until(lambda: (intermodal.state / "runs" / run / "tasks/sleep/attempt-1/log.txt").exists())
    follower.kill()
    follower.wait()
    assert "what was seen last" in intermodal.text("show")
    intermodal.text("cancel", run)
    assert intermodal("resume", run).returncode == 130
    assert _rows(intermodal)["state"] == "CANCELLED"
    assert intermodal("cancel", run).returncode == 2


@pytest.mark.parametrize("moment", ["/components/", "/jobs/"])
def test_a_submission_that_is_killed_is_gone_on_with_and_runs_once(intermodal: Command, plane: Plane, moment: str):
    plane.faults.plan(Fault(method="PUT", path=moment, fault="slow", seconds=3))
    before = len(plane.faults.happened)
    (intermodal.folder / "p.py").write_text(PIPELINE.replace('image="shell"', f'image="shell{moment.strip("/")}"'))
    process = _start(intermodal, "submit", "p.py", "--pipeline", "one")
    try:
        _until(lambda: len(plane.faults.happened) > before or process.poll() is not None)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert intermodal("resume").returncode == 0
    shown = _rows(intermodal)
    assert shown["state"] == "SUCCEEDED"
    assert [run.id for run in plane.records.jobs() if run.id == shown["id"]] == [shown["id"]]


def _start(intermodal: Command, *words: str) -> "subprocess.Popen[bytes]":
    code = "from intermodal.cli.main import entry; entry()"
    command = [sys.executable, "-c", code, words[0], "--state", str(intermodal.state), *words[1:]]
    return subprocess.Popen(command, cwd=intermodal.folder, env=os.environ, stdout=subprocess.DEVNULL)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bad_day_of_the_service_neither_loses_a_run_nor_sends_it_twice(intermodal: Command, plane: Plane):
    before = len(plane.faults.happened)
    jobs = len(list(plane.records.jobs()))
    planned = (
        Fault(method="PUT", path="/jobs/", fault="late-drop"),  # it was carried out, and nobody knows
        Fault(method="PUT", path="/jobs/", fault="expired-token"),
        Fault(method="GET", path="/children", fault="throttle", after=1),
        Fault(method="GET", path="/children", fault="drop", after=2),
        Fault(method="GET", path="/details", fault="unavailable", times=2),
        Fault(method="GET", path="/details", fault="expired-token", after=2),
        Fault(method="GET", path="/jobs/", fault="drop", times=2, after=3),
    )
    plane.faults.plan(*planned)
    done = intermodal("submit", "p.py", "--pipeline", "one", "--wait")
    assert done.returncode == 0, done
    assert len(plane.faults.happened) >= before + 5
    assert _rows(intermodal)["state"] == "SUCCEEDED"
    assert len(list(plane.records.jobs())) == jobs + 1


def test_the_doctor_says_what_submitting_lacks(intermodal: Command, monkeypatch: pytest.MonkeyPatch):
    done = intermodal("doctor", "--backend", "azureml", "--json")
    checks = {item["name"]: item for item in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 3
    assert checks["packages"]["level"] == checks["emulator"]["level"] == "ok"
    assert checks["settings"]["level"] == "fail" and "lacks subscription" in checks["settings"]["message"]
    assert checks["images"]["level"] == "warn"
    for name in ("SUBSCRIPTION", "RESOURCE_GROUP", "WORKSPACE"):
        monkeypatch.setenv(f"INTERMODAL_AZUREML_{name}", "x")
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_"))]:
        monkeypatch.delenv(name)
    done = intermodal("doctor", "--backend", "azureml", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["name"], last["level"]) == (3, "credential", "fail")
    assert "az login" in last["hint"]
    sent = intermodal("submit", "p.py", "--pipeline", "wide", "--emulator", str(intermodal.folder / "nothing"))
    assert (sent.returncode, b"no emulator runs on" in sent.stderr) == (3, True)

"""Waiting for jobs by the real MLClient: how they end, whatever the service and the user do meanwhile."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import CommandComponent, Environment, PipelineJob

from intermodal.backends.azureml.emulator.client import connect
from intermodal.backends.azureml.emulator.emulate import emulating
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.emulator.faults import Fault
from intermodal.backends.azureml.emulator.plane import Plane
from intermodal.jobs import JobFailed, JobTimedOut, submit_and_wait_for_job
from tests.support.azurite import TOOLS
from tests.support.host import HostBackend

IMAGE = Environment(image="python:3.11")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("workspace")
    with emulating(folder, HostBackend(), Options(cores=2), tools=TOOLS) as plane:
        yield plane


@pytest.fixture
def client(plane: Plane) -> Iterator[MLClient]:
    with connect(plane.folder) as client:
        yield client


def _job(text: str) -> Any:
    return command(command=text, environment=IMAGE)


def test_a_job_is_waited_for_through_a_bad_day_and_sent_once(plane: Plane, client: MLClient):
    before = len(plane.records.jobs())
    plane.faults.plan(
        Fault(method="PUT", path="/jobs/", fault="late-drop", times=4),
        Fault(method="GET", path="/jobs/", fault="drop", times=5, after=1),
    )
    seen: list[str] = []
    done = submit_and_wait_for_job(client, _job("true"), poll=0.2, on_status=seen.append)
    assert done.status == seen[-1] == "Completed"
    assert len(plane.records.jobs()) == before + 1
    assert submit_and_wait_for_job(client, done, poll=0.2).name == done.name
    assert len(plane.records.jobs()) == before + 1


def test_a_failed_job_is_an_error_with_its_failed_tasks_and_their_last_words(client: MLClient):
    def node(text: str) -> Any:
        return CommandComponent(name="step", command=text, environment=IMAGE)()

    jobs = {"good": node("echo fine"), "bad": node("seq 1 50; echo broken; exit 3")}
    pipeline = PipelineJob(jobs=jobs, compute="cpu-cluster", settings={"continue_on_step_failure": True})
    with pytest.raises(JobFailed) as failure:
        submit_and_wait_for_job(client, pipeline, poll=0.2, log_lines=3)
    (task,) = failure.value.failed
    assert (task.display_name, task.status, task.log_tail) == ("bad", "Failed", "49\n50\nbroken")
    assert "failed: bad" in failure.value.message
    assert "broken" in str(failure.value)


def test_a_job_that_takes_too_long_is_cancelled(plane: Plane, client: MLClient):
    began = time.monotonic()
    with pytest.raises(JobTimedOut, match="was not over after 1 s") as error:
        submit_and_wait_for_job(client, _job("sleep 600"), timeout=1, poll=0.2)
    assert plane.wait(error.value.job.name, 60).status == "Canceled"
    assert time.monotonic() - began < 60


def test_an_interrupt_cancels_the_job(plane: Plane, client: MLClient):
    job = _job("sleep 600")

    def interrupt(status: str) -> None:
        if status == "Running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit_and_wait_for_job(client, job, poll=0.2, on_status=interrupt)
    assert plane.wait(job.name, 60).status == "Canceled"

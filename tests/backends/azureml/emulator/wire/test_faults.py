"""Bad days of the service: the real client gets over them, or says what is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import Environment
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceResponseError

from intermodal.backends.azureml.emulator.client import Credential, connect
from intermodal.backends.azureml.emulator.faults import Fault
from intermodal.backends.azureml.emulator.plane import Plane

IMAGE = Environment(image="python:3.11")


@pytest.fixture(autouse=True)
def _afresh(plane: Plane) -> Iterator[None]:
    plane.faults.happened.clear()
    yield
    assert [fault for fault, *_ in plane.faults.happened], "the fault never happened: the test shows nothing"


@pytest.mark.parametrize("fault", ["throttle", "unavailable", "drop", "late-drop"])
def test_a_job_is_submitted_once_through(fault: str, plane: Plane, client: MLClient):
    plane.faults.plan(Fault(fault=fault, method="PUT", path="/jobs/", times=2))  # type: ignore[arg-type]
    before = len(plane.records.jobs())
    began = time.monotonic()
    job = client.jobs.create_or_update(command(command="true", environment=IMAGE))
    assert len(plane.faults.happened) == 2
    assert len(plane.records.jobs()) == before + 1
    assert plane.wait(job.name, 60).status == "Completed"
    if fault == "throttle":
        assert time.monotonic() - began >= 2, "Retry-After says one second, twice"


def test_following_gets_over_a_service_that_comes_and_goes(
    plane: Plane, client: MLClient, capsys: pytest.CaptureFixture[str]
):
    job = client.jobs.create_or_update(command(command="sleep 3; echo done at last", environment=IMAGE))
    plane.faults.plan(
        Fault(fault="unavailable", path="/details", after=1),
        Fault(fault="drop", path="/details", after=2),
        Fault(fault="slow", path="/details", after=3, seconds=2),
    )
    client.jobs.stream(job.name)
    assert client.jobs.get(job.name).status == "Completed"


def test_an_upload_that_breaks_in_the_middle_is_whole_in_the_end(plane: Plane, client: MLClient, tmp_path: Path):
    content = bytes(range(256)) * 8000
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "big.bin").write_bytes(content)
    plane.faults.plan(Fault(fault="half-upload", bytes=500_000))
    job = client.jobs.create_or_update(command(command="wc -c big.bin", code=str(tmp_path / "code"), environment=IMAGE))
    assert plane.wait(job.name, 60).status == "Completed"
    code = plane.records.run(job.name).body["properties"]["codeId"]
    fetched = plane.download(code, tmp_path / "fetched")
    assert (fetched if fetched.is_file() else fetched / "big.bin").read_bytes() == content


def test_a_token_that_has_ended_is_refused_by_name(plane: Plane):
    plane.faults.plan(Fault(fault="slow", path="/datastores", seconds=0))
    with connect(plane.folder) as client:
        list(client.datastores.list())
    with (
        connect(plane.folder, Credential(plane.identity, lifetime=-10)) as client,
        pytest.raises(ClientAuthenticationError, match="ExpiredAuthenticationToken"),
    ):
        client.jobs.get("any")


def test_a_service_that_stays_away_is_an_error_that_says_so(plane: Plane):
    with connect(plane.folder, retry_total=1, retry_backoff_factor=0.1) as client:
        plane.faults.plan(Fault(fault="expired-token", path="/jobs/"))
        with pytest.raises(ClientAuthenticationError, match="expiry UTC time is earlier"):
            client.jobs.get("any")
        plane.faults.plan(Fault(fault="unavailable", path="/jobs/", times=2))
        with pytest.raises(HttpResponseError, match="ServiceUnavailable"):
            client.jobs.get("any")
        plane.faults.plan(Fault(fault="drop", path="/jobs/", times=2))
        with pytest.raises(ServiceResponseError):
            client.jobs.get("any")

"""The real MLClient over the wire: assets, jobs, logs, outputs and cancelling."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from azure.ai.ml import Input, MLClient, Output, command, dsl
from azure.ai.ml.entities import CommandComponent, Data, Environment, Model
from azure.ai.ml.exceptions import JobException
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from intermodal.backends.azureml.emulator.client import connect, read_address
from intermodal.backends.azureml.emulator.plane import Plane, running
from tests.backends.azureml.emulator.wire import serving
from tests.backends.azureml.emulator.wire.local import LocalExecutor
from tests.support.azurite import TOOLS

IMAGE = Environment(image="python:3.11")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "copy.sh").write_text('echo "copying for $1"\ncp "$2"/* "$3"; echo "$1" >> "$3/word.txt"\n')
    return folder


@pytest.fixture
def copying(code: Path) -> CommandComponent:
    return CommandComponent(
        name="copying",
        command="sh copy.sh ${{inputs.word}} ${{inputs.data}} ${{outputs.copied}}",
        code=str(code),
        environment=IMAGE,
        inputs={"word": {"type": "string", "optional": False}, "data": {"type": "uri_folder"}},
        outputs={"copied": {"type": "uri_folder"}},
        is_deterministic=False,
    )


def test_a_pipeline_from_its_data_to_its_outputs(
    plane: Plane, client: MLClient, copying: CommandComponent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.txt").write_text("1")
    data = client.data.create_or_update(Data(name="numbers", path=str(tmp_path / "data"), type="uri_folder"))
    assert data.version == "1"

    @dsl.pipeline(compute="cpu-cluster")
    def pipeline(data):
        first = copying(word="first", data=data)
        second = copying(word="second", data=first.outputs.copied)
        return {"result": second.outputs.copied}

    job = client.jobs.create_or_update(pipeline(data=Input(type="uri_folder", path=data.id)))
    assert job.status == "NotStarted"
    client.jobs.stream(job.name)
    said = capsys.readouterr().out
    assert "Streaming logs/azureml/executionlogs.txt" in said
    assert "node second: Completed" in said
    got = client.jobs.get(job.name)
    assert got.status == "Completed"
    assert set(got.jobs) == {"first", "second"}

    children = {child.properties["azureml.moduleName"]: child for child in client.jobs.list(parent_job_name=job.name)}
    assert {name: child.status for name, child in children.items()} == {"first": "Completed", "second": "Completed"}
    assert client.jobs.get(children["first"].name).status == "Completed"

    client.jobs.download(job.name, download_path=tmp_path / "all", all=True)
    result = tmp_path / "all" / "named-outputs" / "result"
    assert {path.name: path.read_text() for path in result.iterdir()} == {"one.txt": "1", "word.txt": "first\nsecond\n"}
    client.jobs.download(children["first"].name, download_path=tmp_path / "first", output_name="copied")
    assert (tmp_path / "first" / "named-outputs" / "copied" / "word.txt").read_text() == "first\n"
    client.jobs.download(children["first"].name, download_path=tmp_path / "log")
    assert (tmp_path / "log" / "artifacts" / "user_logs" / "std_log.txt").read_text() == "copying for first\n"


def test_equal_code_is_sent_once(plane: Plane, client: MLClient, code: Path):
    before = len(plane.records.assets("codes"))
    (code / "new.txt").write_text("never seen before")
    for _ in range(2):
        client.jobs.create_or_update(command(command="ls", code=str(code), environment=IMAGE))
    assert len(plane.records.assets("codes")) == before + 1


def test_a_failed_command_is_a_failure_with_its_reason(client: MLClient, capsys: pytest.CaptureFixture[str]):
    job = client.jobs.create_or_update(command(command="echo so far; exit 7", environment=IMAGE))
    with pytest.raises(JobException, match="exited with 7"):
        client.jobs.stream(job.name)
    assert "so far" in capsys.readouterr().out or client.jobs.get(job.name).status == "Failed"


def test_cancelling_ends_the_processes(plane: Plane, client: MLClient):
    job = client.jobs.create_or_update(command(command="echo begun; sleep 600", environment=IMAGE))
    while plane.records.run(job.name).status == "NotStarted":
        time.sleep(0.05)
    client.jobs.begin_cancel(job.name).wait()
    assert client.jobs.get(job.name).status == "Canceled"
    assert plane.wait(job.name, 60).status == "Canceled"
    client.jobs.begin_cancel(job.name).wait()  # a second time changes nothing
    assert client.jobs.get(job.name).status == "Canceled"


def test_assets(plane: Plane, client: MLClient, copying: CommandComponent, tmp_path: Path):
    environment = client.environments.create_or_update(Environment(name="tools", image="python:3.11"))
    assert client.environments.get("tools", label="latest").version == environment.version == "1"
    (tmp_path / "model.bin").write_text("weights")
    model = client.models.create_or_update(Model(name="ner", path=str(tmp_path / "model.bin"), tags={"f1": "0.9"}))
    assert plane.download(model.id, tmp_path / "down").read_text() == "weights"
    assert client.models.get("ner", label="latest").tags == {"f1": "0.9"}
    component = client.components.create_or_update(copying)
    got = client.components.get("copying", component.version)
    assert got.command == copying.command
    assert got.is_deterministic is False
    assert plane.component(component.id)["is_deterministic"] is False
    assert plane.environment(environment.id)["image"] == "python:3.11"
    for kind, name in ((client.environments, "tools"), (client.models, "ner"), (client.components, "copying")):
        assert name in [item.name for item in kind.list()]
    with pytest.raises(ResourceNotFoundError):
        client.data.get("nothing", "1")
    with pytest.raises(HttpResponseError, match="exists already"):
        client.environments.create_or_update(Environment(name="tools", version="1", image="python:3.12"))


def test_what_a_job_is_may_not_change_but_its_description_may(client: MLClient):
    made = client.jobs.create_or_update(command(command="true", environment=IMAGE, name="same"))
    made = client.jobs.update(made.name, display_name="Another", tags={"a": "b"})
    assert (made.display_name, made.tags) == ("Another", {"a": "b"})
    with pytest.raises(HttpResponseError, match="command of a job cannot be changed"):
        client.jobs.create_or_update(command(command="false", environment=IMAGE, name="same"))
    client.jobs.archive("same")
    assert "same" not in [job.name for job in client.jobs.list()]
    assert "same" in [job.name for job in client.jobs.list(list_view_type="All")]


def test_clusters_that_are_not_there(tmp_path: Path):
    with running(tmp_path, LocalExecutor, tools=TOOLS, computes=["here"]) as plane, connect(plane.folder) as client:
        assert [compute.name for compute in client.compute.list()] == ["here"]
        client.jobs.create_or_update(command(command="true", environment=IMAGE, compute="here"))
        with pytest.raises(HttpResponseError, match="Unknown compute target 'elsewhere'"):
            client.jobs.create_or_update(command(command="true", environment=IMAGE, compute="elsewhere"))


@pytest.fixture
def cloud() -> Iterator[None]:
    os.environ["AZUREML_CURRENT_CLOUD"] = "AzureChinaCloud"
    yield
    del os.environ["AZUREML_CURRENT_CLOUD"]


def test_a_workspace_survives_a_restart_and_leaves_the_process_as_it_was(tmp_path: Path, cloud: None):
    from azure.ai.ml.constants._common import STORAGE_ACCOUNT_URLS

    (tmp_path / "data.txt").write_text("kept")
    with running(tmp_path / "space", LocalExecutor, tools=TOOLS) as plane, connect(plane.folder) as client:
        data = client.data.create_or_update(Data(name="kept", path=str(tmp_path / "data.txt"), type="uri_file"))
        job = client.jobs.create_or_update(
            command(command="cat ${{inputs.d}}", environment=IMAGE, inputs={"d": Input(type="uri_file", path=data.id)})
        )
        assert plane.wait(job.name, 60).status == "Completed"
        long = client.jobs.create_or_update(command(command="sleep 600", environment=IMAGE))
    assert os.environ["AZUREML_CURRENT_CLOUD"] == "AzureChinaCloud"
    assert STORAGE_ACCOUNT_URLS["AzureBlob"] == "https://{}.blob.{}"
    with running(tmp_path / "space", LocalExecutor, tools=TOOLS) as plane, connect(plane.folder) as client:
        assert client.jobs.get(job.name).status == "Completed"
        assert client.jobs.get(long.name).status == "Canceled"
        client.jobs.download(job.name, download_path=tmp_path / "log")
        assert (tmp_path / "log" / "artifacts" / "user_logs" / "std_log.txt").read_text() == "kept"
        assert plane.download(data.id, tmp_path / "again").read_text() == "kept"


def test_a_killed_emulator_leaves_no_process_and_says_what_became_of_its_jobs(tmp_path: Path):
    folder = tmp_path / "space"
    (tmp_path / "data.txt").write_text("kept")
    process = subprocess.Popen([sys.executable, "-m", serving.__name__, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    storage = int(read_address(folder).storage.rpartition(":")[2])
    with connect(folder) as client:
        data = client.data.create_or_update(Data(name="kept", path=str(tmp_path / "data.txt"), type="uri_file"))
        job = client.jobs.create_or_update(command(command="true", environment=IMAGE))
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while listens(storage):
        assert time.monotonic() < deadline, "azurite outlives its emulator"
        time.sleep(0.1)
    with running(folder, LocalExecutor, tools=TOOLS) as plane, connect(folder) as client:
        assert client.jobs.get(job.name).status == "Failed"
        assert plane.records.run(job.name).error == "The emulator was stopped while this ran."
        assert plane.download(data.id, tmp_path / "down").read_text() == "kept"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_outputs_have_addresses_and_become_assets_where_they_have_names(client: MLClient, plane: Plane, tmp_path: Path):
    outputs = {
        "plain": Output(type="uri_folder"),
        "named": Output(type="uri_folder", name="from-a-job"),
        "model": Output(type="custom_model", name="made", version="7"),
    }
    words = "; ".join(f"echo {port} > ${{{{outputs.{port}}}}}/f" for port in outputs)
    job = client.jobs.create_or_update(command(command=words, environment=IMAGE, outputs=outputs))
    assert plane.wait(job.name, 60).status == "Completed"
    got = client.jobs.get(job.name).outputs
    assert got["plain"].path.startswith("azureml://datastores/workspaceblobstore/paths/")
    assert (
        plane.download(client.data.get("from-a-job", "1").id, tmp_path / "data").joinpath("f").read_text() == "named\n"
    )
    assert plane.download(client.models.get("made", "7").id, tmp_path / "model").joinpath("f").read_text() == "model\n"
    assert "plain" not in [item.name for item in client.data.list()]


def test_long_lists_come_page_by_page(client: MLClient, plane: Plane):
    model = plane.records.jobs()[0]
    for number in range(230):
        plane.records.add_run(replace(model, id=f"page-{number}", root=f"page-{number}", status="Completed"))
    names = [job.name for job in client.jobs.list() if job.name.startswith("page-")]
    assert names == [f"page-{number}" for number in reversed(range(230))]
    for number in range(130):
        made = replace(model, id=f"child-{number}", kind="child", root="page-0", parent="page-0", body={})
        plane.records.add_run(made)
    # The client of 1.35 follows no pages of children (it takes the first for all): it must be told how many there may be.
    children = [job.name for job in client.jobs.list(parent_job_name="page-0", max_results=1000)]
    assert children == [f"child-{number}" for number in range(130)]
    assert len(list(client.jobs.list(parent_job_name="page-0"))) == 100

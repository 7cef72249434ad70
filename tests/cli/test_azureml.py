"""`intermodal azureml emulate`: job files to their end, and a workspace for clients of other processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from intermodal.backends.azureml.emulator.client import connect, read_address
from intermodal.backends.azureml.emulator.records import Records
from intermodal.errors import EnvironmentProblem
from tests.support.azurite import TOOLS
from tests.support.command import Command

STEP = """
import json, os, pathlib, sys, urllib.request
pathlib.Path(sys.argv[2], "word.txt").write_text(sys.argv[1])
url = os.environ["MLFLOW_TRACKING_URI"].replace("azureml://", "https://") + "/api/2.0/mlflow/runs/log-metric"
body = json.dumps({"run_id": os.environ["MLFLOW_RUN_ID"], "key": "length", "value": len(sys.argv[1])}).encode()
headers = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "Content-Type": "application/json"}
print("logged:", urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30).status)
"""
JOB = """
type: pipeline
compute: azureml:any-cluster
outputs: {result: {type: uri_folder}}
jobs:
  write:
    type: command
    command: python3 step.py hello ${{outputs.folder}}
    code: ./code
    environment: {image: IMAGE}
    outputs: {folder: {type: uri_folder}}
  check:
    type: command
    command: test "$(cat ${{inputs.folder}}/word.txt)" = WORD && cp ${{inputs.folder}}/word.txt ${{outputs.result}}
    environment: {image: IMAGE}
    inputs: {folder: "${{parent.jobs.write.outputs.folder}}"}
    outputs: {result: "${{parent.outputs.result}}"}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "step.py").write_text(STEP)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "tools").symlink_to(TOOLS)
    return tmp_path


def write_job(project: Path, name: str, image: str, word: str = "hello") -> Path:
    path = project / name
    path.write_text(JOB.replace("IMAGE", image).replace("WORD", word))
    return path


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "intermodal", "azureml", "--state", "state", "emulate", *arguments]
    out = subprocess.PIPE
    return subprocess.Popen(command, cwd=project, stdout=out, stderr=out, stdin=subprocess.DEVNULL, text=True)


def emulate(project: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(project, *arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.mark.engine
def test_job_files_run_in_containers(project: Path):
    write_job(project, "good.yml", "intermodal/base:dev")
    write_job(project, "bad.yml", "intermodal/base:dev", word="another")
    code, out, err = emulate(project, "good.yml", "bad.yml")
    assert code == 1, out + err
    good, _, bad = out.partition("bad.yml: job ")
    assert "write: Completed" in good and "check: Completed" in good
    assert "result: azureml://datastores/" in good
    assert "write: Completed" in bad and "check: Failed" in bad
    assert "node 'check' failed: exit code 1" in bad


def test_job_files_run_as_processes_and_their_results_stay(project: Path):
    write_job(project, "good.yml", "python:3.11")
    (project / "faults.json").write_text('[{"fault": "throttle", "method": "PUT", "path": "/jobs/", "times": 2}]')
    code, out, err = emulate(project, "good.yml", "--backend", "host", "--faults", "faults.json")
    assert code == 0, out + err
    job = out.splitlines()[0].rpartition(" ")[2]
    folder = project / "state" / "azureml"
    with pytest.raises(EnvironmentProblem, match="no emulator runs"):
        read_address(folder)

    process = start(project, "--backend", "host")
    try:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("Ctrl-C"):
                break
        assert "connect" in "".join(told)
        with connect(folder) as client:
            assert client.jobs.get(job).status == "Completed"
            client.jobs.download(job, download_path=project / "down", output_name="result")
        assert (project / "down" / "named-outputs" / "result" / "word.txt").read_text() == "hello"
        assert "already" in emulate(project, "--backend", "host")[2]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    with pytest.raises(EnvironmentProblem, match="no emulator runs"):
        read_address(folder)


def test_ctrl_c_cancels_the_job(project: Path):
    (project / "long.yml").write_text("type: command\ncommand: echo begun; sleep 600\nenvironment: {image: i}\n")
    process = start(project, "long.yml", "--backend", "host")
    assert process.stdout is not None
    name = process.stdout.readline().rpartition(" ")[2].strip()
    while f"{name}: Running" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert "cancelling" in err
    emulator = Records(project / "state" / "azureml" / "workspace.db")
    assert emulator.run(name).status == "Canceled"
    emulator.close()


def test_what_is_wrong_is_said_in_a_line(project: Path):
    (project / "unknown.yml").write_text(
        "type: pipeline\njobs: {a: {type: command, comand: x, environment: {image: i}}}\n"
    )
    for name, words in (("absent.yml", "No such file"), ("unknown.yml", "jobs.a")):
        done = Command(project, project / "state")("azureml", "emulate", name, "--backend", "host")
        assert done.returncode == 2
        assert done.stderr.decode().startswith(f"error: {name}: ")
        assert words in done.stderr.decode()

"""The launcher in an image with an old Python, and in one without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from intermodal.backends.azureml.compile import compile_pipeline
from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.docker.client import connect
from intermodal.engine.artifacts import Inputs
from intermodal.errors import ExitCode
from intermodal.sources import compile_file
from intermodal.spec.load import load_pipeline
from tests.backends.azureml.conftest import SETTINGS
from tests.backends.azureml.emulator.debian import DEBIAN_11, WITHOUT_PYTHON, ensure_debian
from tests.backends.azureml.emulator.plane import FolderPlane
from tests.support.command import Command

pytestmark = pytest.mark.engine

SOURCE = """
from kfp import dsl


@dsl.container_component
def greet(name: str, to: dsl.Output[dsl.Artifact], size: dsl.OutputPath(int)):
    words = 'cat /etc/debian_version > "$1"; echo "hello $0" >> "$1"; echo 2 > "$2"'
    return dsl.ContainerSpec(image="IMAGE", command=["sh", "-c", words], args=[name, to.path, size])


@dsl.pipeline
def greeting(name: str = "you"):
    with dsl.If(greet(name=name).outputs["size"] == 2):
        greet(name="again").set_display_name("twice")
"""


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    client = connect()
    try:
        ensure_debian(client)
    finally:
        client.close()


def pipeline_in(image: str, folder: Path) -> Path:
    path = folder / "greeting.py"
    path.write_text(SOURCE.replace("IMAGE", image))
    return path


def job(image: str, folder: Path, plane: FolderPlane):
    compile_file(pipeline_in(image, folder), folder / "greeting.yaml")
    return plane.add_compiled(compile_pipeline(load_pipeline(folder / "greeting.yaml"), Inputs(), SETTINGS), "launcher")


def test_a_step_in_debian_11(engine: JobExecutor, plane: FolderPlane, tmp_path: Path):
    engine.submit("job", job(DEBIAN_11, tmp_path, plane))
    done = plane.wait("job")
    assert done.error is None and {run.state for run in plane.nodes().values()} == {"Completed"}
    assert "[kfp] task condition-1/greet-2: SUCCEEDED" in plane.log("condition_1__greet_2")
    content = plane.content(plane.nodes()["greet"].outputs["a_to"])["to"]
    assert content.startswith("11.") and content.endswith("hello you\n")


def test_an_image_without_python_says_so_when_it_runs(engine: JobExecutor, plane: FolderPlane, tmp_path: Path):
    engine.submit("job", job(WITHOUT_PYTHON, tmp_path, plane))
    assert plane.wait("job").state == "Failed"
    assert plane.log("greet") == "error: the image has no python3, which the launcher needs\n"


def test_an_image_without_python_is_refused_where_it_is_at_hand(tmp_path: Path):
    intermodal = Command(tmp_path, tmp_path / "state")
    done = intermodal(
        "compile", str(pipeline_in(WITHOUT_PYTHON, tmp_path)), "--backend", "azureml", "-o", str(tmp_path / "job")
    )
    assert done.returncode == ExitCode.UNSUPPORTED and not (tmp_path / "job").exists()
    assert (
        f"greet: image {WITHOUT_PYTHON} has no Python 3.9 or newer, which the launcher on AzureML needs"
        in done.stderr.decode()
    )

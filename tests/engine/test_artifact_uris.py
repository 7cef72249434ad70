"""URIs that steps hand on, workspaces and models in images: in real containers."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient
from kfp import compiler, dsl

from intermodal.backends.docker import DockerBackend
from intermodal.backends.docker.client import connect
from intermodal.engine.options import Options
from intermodal.engine.session import Request, Result, Session
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from tests.conftest import Recorder

pytestmark = pytest.mark.engine

IMAGE = "intermodal/base:dev"


@dsl.container_component
def make(data: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'mkdir "$0" && echo one > "$0/a"', data.path])


@dsl.container_component
def tell(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'printf %s "$0" > "$1"', data.uri, out])


@dsl.container_component
def change(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
    """Write into the artifact, which only one in the workspace allows."""
    script = 'echo two >> "$0/a" && printf "%s %s" "$0" "$(cat "$0/a" | tr "\\n" ,)" > "$1"'
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", script, data.path, out])


@dsl.container_component
def list_model(model: dsl.Input[dsl.Model], out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(
        image=IMAGE, command=["sh", "-c", 'printf "%s %s" "$0" "$(cat "$0/weights")" > "$1"', model.path, out]
    )


def run(pipeline, tmp_path: Path, options: Options | None = None, **arguments) -> tuple[Result, Recorder]:
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    recorder = Recorder()
    with Session(tmp_path / "state", DockerBackend(), Settings(), options or Options()) as session:
        runner = session.runner(Request(load_pipeline(path), arguments), recorder)
        return session.execute(runner), recorder


def test_a_uri_that_a_step_hands_on_can_be_imported_into_the_workspace(tmp_path: Path):
    @dsl.pipeline(name="p", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")))
    def pipeline() -> str:
        uri = tell(data=make().outputs["data"]).outputs["out"]
        again = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, download_to_workspace=True)
        return change(data=again.output).outputs["out"]

    result, recorder = run(pipeline, tmp_path)
    path, _, content = result.outputs.parameters["Output"].partition(" ")
    assert recorder.failures == {}
    assert path.startswith("/kfp-workspace/.artifacts/kfp/store/") and path.endswith("/artifact")
    assert content == "one,two,"


def test_an_imported_object_keeps_its_uri_and_lies_where_kfp_puts_it(tmp_path: Path):
    @dsl.container_component
    def look(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
        script = 'printf "%s %s %s" "$0" "$(cat /gcs/bucket/file)" "$(cat "$1")" > "$2"'
        return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", script, data.uri, data.path, out])

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        data = dsl.importer(artifact_uri="gs://bucket/file", artifact_class=dsl.Dataset)
        return look(data=data.output).outputs["out"]

    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "file").write_text("x")
    result, _ = run(pipeline, tmp_path, Options(places=(("gs://bucket", tmp_path / "bucket"),)))
    assert result.outputs.parameters["Output"] == "gs://bucket/file x x"


@pytest.fixture
def modelcar() -> Iterator[str]:
    """An image with a model in `/models`."""
    client: APIClient = connect()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        folder = tarfile.TarInfo("models")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        weights = tarfile.TarInfo("models/weights")
        weights.size = 6
        tar.addfile(weights, io.BytesIO(b"heavy\n"))
    reference = "intermodal-test/modelcar:1"
    client.import_image_from_data(archive.getvalue(), repository="intermodal-test/modelcar", tag="1")
    yield reference
    client.remove_image(reference, force=True)
    client.close()


def test_a_model_is_imported_from_an_image(tmp_path: Path, modelcar: str):
    @dsl.pipeline(name="p")
    def pipeline(uri: str) -> str:
        return list_model(model=dsl.importer(artifact_uri=uri, artifact_class=dsl.Model).output).outputs["out"]

    result, recorder = run(pipeline, tmp_path, uri=f"oci://{modelcar}")
    assert recorder.failures == {}
    assert result.outputs.parameters["Output"] == "/oci/intermodal-test_modelcar:1/models heavy"
    _, recorder = run(pipeline, tmp_path, uri=f"oci://{IMAGE}")
    assert "/models is not in it" in recorder.failures["importer"].message

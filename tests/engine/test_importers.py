"""Importers: local files, HTTP, and what cannot be imported."""

import http.server
import threading
from pathlib import Path

import pytest
from kfp import dsl

from intermodal.engine.failure import FailureClass
from intermodal.engine.options import Options
from tests.conftest import Run


@dsl.container_component
def cat(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
    script = 'printf "%s %s" "$(cat "$1")" "$2" > "$3"'
    args = [data.path, "{{$.inputs.artifacts['data'].metadata['from']}}", out]
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=args)


@dsl.pipeline(name="imported")
def imported(uri: str, origin: str = "here") -> str:
    data = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=False, metadata={"from": origin})
    return cat(data=data.output).outputs["out"]


def test_a_local_file_is_imported_by_content_with_its_metadata(run: Run, tmp_path: Path):
    path = tmp_path / "my file"
    path.write_text("one")
    assert run(imported, uri=str(path), origin="me").result.outputs.parameters["Output"] == "one me"
    second = run(imported, uri=f"file://{tmp_path}/my%20file", origin="me")
    assert second.states["cat"] == "CACHED"
    path.write_text("two")
    assert run(imported, uri=str(path), origin="me").result.outputs.parameters["Output"] == "two me"


def test_http_is_fetched(run: Run, tmp_path: Path):
    (tmp_path / "served").write_text("from afar")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert run(imported, uri=f"{address}/served").result.outputs.parameters["Output"] == "from afar here"
        failure = run(imported, uri=f"{address}/missing").recorder.failures["importer"]
        assert "404" in failure.message
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("uri", "word"), [("/no/such/file", "/no/such/file"), ("http://127.0.0.1:9/x", "refused"), ("zz://x/y", "zz")]
)
def test_what_cannot_be_imported_is_named_and_downstream_skipped(run: Run, uri: str, word: str):
    ran = run(imported, uri=uri)
    assert ran.states == {"importer": "FAILED", "cat": "SKIPPED"}
    assert ran.recorder.failures["importer"].kind is FailureClass.USER_CODE
    assert uri in ran.recorder.failures["importer"].message and word in ran.recorder.failures["importer"].message


def test_a_local_folder_stands_in_for_what_lies_below_a_uri(run: Run, tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("from the map")
    (tmp_path / "other").write_text("longer prefix")
    options = Options(places=(("gs://bucket/data", tmp_path), ("gs://bucket/data/more", tmp_path / "other")))
    ran = run(imported, options=options, uri="gs://bucket/data/deep/file")
    assert ran.result.outputs.parameters["Output"] == "from the map here"
    ran = run(imported, options=options, uri="gs://bucket/data/more")
    assert ran.result.outputs.parameters["Output"] == "longer prefix here"
    failure = run(imported, options=options, uri="gs://bucket/database").recorder.failures["importer"]
    assert "gs://bucket/database cannot be imported" in failure.message
    assert Options.from_json(options.as_json()) == options


def test_an_image_is_imported_only_where_there_are_images_and_only_as_a_model(run: Run):
    failure = run(imported, uri="oci://registry/model:1").recorder.failures["importer"]
    assert "oci:// is for a system.Model, not for a system.Dataset" in failure.message

    @dsl.pipeline(name="p")
    def pipeline():
        dsl.importer(artifact_uri="oci://registry/model:1", artifact_class=dsl.Model)

    assert "has no images to take /models from" in run(pipeline).recorder.failures["importer"].message

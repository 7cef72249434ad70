"""The download in its image, from a Hub that this test serves: the same HTTP that the Hub speaks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tokenizers import Tokenizer

from tests.components.backbone.test_sentencepiece import MODEL, OURS

pytestmark = pytest.mark.engine

COMMIT = "5b1c" * 10


@dataclass
class Hub:
    """Models by name, each file by name. `asked` is what was asked for."""

    address: str = ""
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(self.path)
            served.asked.append(path)
            for name, files in served.models.items():
                if path == f"/api/models/{name}/revision/v1" or path == f"/api/models/{name}/revision/{COMMIT}":
                    siblings = [{"rfilename": file} for file in files]
                    document = {"id": name, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}
                    return self._send(200, json.dumps(document).encode(), body, "application/json")
                if path.partition("?")[0] == f"/api/models/{name}/tree/{COMMIT}":
                    tree = [
                        {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for file, content in files.items()
                    ]
                    return self._send(200, json.dumps(tree).encode(), body, "application/json")
                place = f"/{name}/resolve/{COMMIT}/"
                if path.startswith(place) and path.removeprefix(place) in files:
                    content = files[path.removeprefix(place)]
                    return self._send(200, content, body, "application/octet-stream")
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if "/v1" in path else "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None

        def _send(self, code: int, content: bytes, body: bool, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served.address = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()


def fetch(run_step, hub: Hub, out: Path, name: str):
    argv = ["fetch", "--name", name, "--endpoint", hub.address, "--model", "/out/model"]
    return run_step("backbone", argv, {out: "/out"}, network="host", env={"NO_PROXY": "127.0.0.1"})


CONFIG = json.dumps({"model_type": "bert", "hidden_size": 8}).encode()
TOKENIZER = json.dumps({"version": "1.0", "truncation": {"max_length": 128}, "padding": {}, "model": {}}).encode()


def test_safetensors_and_tokenizer_are_fetched_and_nothing_else(run_step, hub: Hub, tmp_path: Path):
    files = {"config.json": CONFIG, "tokenizer.json": TOKENIZER, "model.safetensors": b"weights"}
    others = {"pytorch_model.bin": b"\x80\x04.", "modeling.py": b"raise SystemExit", "onnx/model.safetensors": b"x"}
    hub.models["a/model"] = files | others
    fetch(run_step, hub, tmp_path, "a/model@v1").ok()
    model = tmp_path / "model"
    assert {path.name for path in model.iterdir()} == {*files, "backbone.json"}
    assert (model / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((model / "tokenizer.json").read_text())["truncation"] is None
    manifest = json.loads((model / "backbone.json").read_text())
    assert (manifest["name"], manifest["revision"], manifest["license"]) == ("a/model", COMMIT, "mit")
    assert not [path for path in hub.asked if path.endswith((".bin", ".py", "onnx/model.safetensors"))]


def test_a_deberta_gets_its_tokenizer_from_its_sentencepiece_model(run_step, hub: Hub, tmp_path: Path):
    config = json.dumps({"model_type": "deberta-v2"}).encode()
    hub.models["m/deberta"] = {"config.json": config, "spm.model": MODEL, "model.safetensors": b"weights"}
    fetch(run_step, hub, tmp_path, "m/deberta@v1").ok()
    made = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    assert made.encode("Anna Lee, Berlin").ids == OURS.encode("Anna Lee, Berlin").ids


@pytest.mark.parametrize(
    ("files", "name", "words"),
    [
        ({"config.json": CONFIG, "pytorch_model.bin": b"x"}, "a/model@v1", ["pickle", "never loaded"]),
        ({"config.json": CONFIG, "model.safetensors": b"x"}, "a/model@v1", ["no tokenizer.json"]),
        ({"config.json": CONFIG, "model.safetensors": b"x", "spm.model": MODEL}, "a/model@v1", ["no tokenizer.json"]),
        (
            {"config.json": b'{"model_type": "x", "auto_map": {}}', "model.safetensors": b"x", "tokenizer.json": b"{}"},
            "a/model@v1",
            ["custom code"],
        ),
        ({}, "a/other@v1", ["no public model 'a/other'"]),
        ({}, "a/model@v2", ["no revision 'v2'"]),
    ],
    ids=["pickle", "no tokenizer", "spm of no deberta", "code", "no model", "no revision"],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(run_step, hub: Hub, tmp_path: Path, files, name, words):
    hub.models["a/model"] = files
    completed = fetch(run_step, hub, tmp_path, name)
    assert completed.code == 2, completed.stderr
    assert completed.stderr.startswith("error: ") and "Traceback" not in completed.stderr
    for word in words:
        assert word in completed.stderr
    assert name in completed.stderr or name.partition("@")[0] in completed.stderr
    assert ".download" not in completed.stderr
    assert not list((tmp_path / "model").iterdir())

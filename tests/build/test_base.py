"""The base image out of a registry: by digest, without pip. The registry is a real one as far as an engine can see."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest

from intermodal.build.base import _pinned, take_official
from intermodal.build.images import reference

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).parents[2]
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
TARGET = "intermodal-test/official:dev"


@dataclass
class Registry:
    """Blobs and manifests by digest, and the one tag `3.11`."""

    address: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifest: str = ""

    def add(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return digest


def _layer(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Serves our own base with a pip on top, as the official image has one."""
    served = Registry()
    with closing(docker.from_env()) as client:
        saved = io.BytesIO(b"".join(client.images.get(reference("base")).save()))
    with tarfile.open(fileobj=saved) as archive:
        described = json.loads(archive.extractfile("manifest.json").read())[0]  # type: ignore[union-attr]
        config = json.loads(archive.extractfile(described["Config"]).read())  # type: ignore[union-attr]
        layers = [archive.extractfile(name).read() for name in described["Layers"]]  # type: ignore[union-attr]
    pip = {"usr/local/bin/pip3": b"#!/bin/sh", "usr/local/lib/python3.11/site-packages/pip/__init__.py": b""}
    layers.append(_layer(pip | {"usr/local/lib/python3.11/site-packages/other.py": b""}))
    config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layers[-1]).hexdigest()}")
    config["history"] = [{"created_by": "test"}] * len(layers)
    blob = json.dumps(config).encode()
    entries = [
        {"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": len(layer), "digest": served.add(layer)}
        for layer in layers
    ]
    top = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(blob), "digest": served.add(blob)}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": top, "layers": entries}
    served.manifest = served.add(json.dumps(document).encode())

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            last = self.path.rpartition("/")[2]
            content = served.blobs.get(served.manifest if last == "3.11" else last)
            if self.path == "/v2/":
                content = b"{}"
            is_manifest = "/manifests/" in self.path
            if content is None:
                content, code = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}', 404
            else:
                code = 200
            self.send_response(code)
            self.send_header("Content-Type", MANIFEST if is_manifest and code == 200 else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(content).hexdigest()}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served.address = f"127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()
    with closing(docker.from_env()) as client:
        for image in client.images.list():
            for tag in image.tags:
                if tag == TARGET or tag.startswith(served.address):
                    client.images.remove(tag, force=True)


def test_the_image_of_the_digest_is_taken_without_its_pip(registry: Registry) -> None:
    said: list[str] = []
    with closing(docker.from_env()) as client:
        pinned = f"{registry.address}/library/python@{registry.manifest}"
        assert take_official(client.api, (pinned, "no-other"), TARGET, said.append)
        code = "import importlib.util as u, os; print(u.find_spec('pip'), os.listdir('/usr/local/bin'))"
        code += "; print(os.listdir('/usr/local/lib/python3.11/site-packages'))"
        out = client.containers.run(TARGET, ["python3", "-c", code], network_mode="none", remove=True)
        assert out.decode().split() == ["None", "[]", "['other.py']"]
        assert client.images.get(TARGET).labels["io.intermodal.base"] == pinned
    assert said == []


def test_a_digest_that_the_registry_no_longer_has_gives_way_to_the_tag(registry: Registry) -> None:
    said: list[str] = []
    gone = f"{registry.address}/library/python@sha256:{'0' * 64}"
    with closing(docker.from_env()) as client:
        assert take_official(client.api, (gone, f"{registry.address}/library/python:3.11"), TARGET, said.append)
        assert client.images.get(TARGET).labels["io.intermodal.base"].endswith("/library/python:3.11")
    assert said == [f"the registry has no {gone}"]


def test_no_registry_is_no_image_and_no_error() -> None:
    with closing(docker.from_env()) as client:
        assert not take_official(client.api, ("127.0.0.1:9/library/python:3.11",), TARGET, lambda _: None)


def test_the_official_image_is_named_by_its_digest() -> None:
    name, _, digest = _pinned(PROJECT).partition("@sha256:")
    assert name == "python:3.11-slim-bookworm"
    assert len(digest) == 64 and set(digest) <= set("0123456789abcdef")

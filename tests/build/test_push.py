"""Pushing the step images to a real registry: the lock names what the registry serves, and compiling takes it from there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from intermodal.backends.azureml.requests import read_image_lock
from intermodal.backends.docker.client import connect
from intermodal.build.push import push_images
from intermodal.errors import BadInput, EnvironmentProblem
from tests.support.registry import registry

pytestmark = pytest.mark.engine

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path) as found:
        yield found


def test_pushed_images_are_in_the_registry_by_the_digests_of_the_lock(address: str, tmp_path: Path):
    lock = tmp_path / "images" / "registry.json"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"another:dev": "elsewhere/another@sha256:0"}))
    with closing(connect()) as client:
        (pushed,) = push_images(["intermodal/base:dev"], address, lock, client, lambda _: None)
        assert not [tag for image in client.images() for tag in image["RepoTags"] or () if tag.startswith(address)]
    assert read_image_lock(tmp_path) == {
        "another:dev": "elsewhere/another@sha256:0",
        "intermodal/base:dev": pushed.there,
    }
    repository, _, digest = pushed.there.partition("@")
    assert repository == f"{address}/intermodal/base"
    request = urllib.request.Request(f"http://{address}/v2/intermodal/base/manifests/{digest}")
    request.add_header("Accept", _MANIFEST)
    with urllib.request.urlopen(request) as answer:
        manifest = json.load(answer)
        assert answer.headers["Docker-Content-Digest"] == digest
    with closing(connect()) as client:
        assert manifest["config"]["digest"] == client.inspect_image("intermodal/base:dev")["Id"]


def test_what_cannot_be_pushed_is_named(tmp_path: Path):
    lock = tmp_path / "registry.json"
    with closing(connect()) as client:
        with pytest.raises(BadInput, match="registry is not set"):
            push_images(["intermodal/base:dev"], "", lock, client, lambda _: None)
        with pytest.raises(BadInput, match="is no registry"):
            push_images(["intermodal/base:dev"], "https://name.azurecr.io", lock, client, lambda _: None)
        with pytest.raises(EnvironmentProblem, match="intermodal/nothing:dev is not on this machine"):
            push_images(["intermodal/nothing:dev"], "127.0.0.1:1", lock, client, lambda _: None)
        with pytest.raises(EnvironmentProblem, match=r"intermodal/base:dev cannot be pushed to 127\.0\.0\.1:1"):
            push_images(["intermodal/base:dev"], "127.0.0.1:1", lock, client, lambda _: None)
    assert not lock.exists()

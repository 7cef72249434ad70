"""The scan of image contents finds each thing that it is there to find, in a real image, and nothing in a clean one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from docker import APIClient

from intermodal.backends.docker.client import connect
from intermodal.build.scan import scan_config, scan_image
from intermodal.errors import EnvironmentProblem
from tests.corpus.images import build_image

IMAGE = "intermodal-test/scan:dev"
KEY = f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n-----END PRIVATE KEY-----\n"
BAD = {
    "/usr/bin/pip": ("", 0o755, " only builds or fetches"),
    "/opt/venv/site-packages/model.pt": ("", 0o644, " is a pickle by its name: loading one runs code"),
    "/opt/setuid": ("", 0o4755, " gives its caller another user or group (mode 4755)"),
    "/opt/open": ("", 0o666, " may be written by anybody (mode 0666)"),
    "/opt/key": (KEY, 0o644, " holds a private key"),
    "/opt/token": (f"token = AKIA{'A' * 16}\n", 0o644, " holds a token"),
    "/opt/.netrc": ("", 0o600, " is where credentials are kept"),
    "/build/wheels/a.whl": ("", 0o644, " was only needed to build"),
    "/opt/known-2.0.dist-info/METADATA": ("", 0o644, ": known 2.0 is locked as 1.0"),
    "/opt/Un_known-1.dist-info/METADATA": ("", 0o644, ": Un_known 1 is in no lock"),
}


@pytest.fixture
def client() -> Iterator[APIClient]:
    with closing(connect()) as found:
        yield found


@pytest.mark.engine
def test_each_thing_is_found_and_nothing_else(client: APIClient) -> None:
    before = scan_image(client, "intermodal/base:dev", {})
    _build(client)
    try:
        found = scan_image(client, IMAGE, {"known": "1.0", "fine": "3"})
    finally:
        client.remove_image(IMAGE, force=True)
    assert before == ["its user is root"]  # what stands on it names another
    assert set(found) == {f"{path}{words}" for path, (_, _, words) in BAD.items()}


def _build(client: APIClient) -> None:
    files = {path.strip("/"): (text.encode(), mode) for path, (text, mode, _) in BAD.items()}
    files["opt/fine-3.dist-info/METADATA"] = (b"", 0o644)
    dockerfile = "FROM intermodal/base:dev\nCOPY files/ /\nRUN chmod u+s /opt/setuid\nUSER 10001\n"
    build_image(client, IMAGE, files, dockerfile)


@pytest.mark.engine
def test_an_image_that_is_not_here_is_named(client: APIClient) -> None:
    with pytest.raises(EnvironmentProblem, match="intermodal/nothing:dev is not on this machine"):
        scan_image(client, "intermodal/nothing:dev", {})


def test_how_an_image_starts() -> None:
    assert scan_config({"User": "10001:10001", "Env": ["PATH=/bin", "LANG=C"]}) == []
    assert scan_config({"User": "0:0"}) == scan_config({}) == ["its user is root"]
    assert scan_config({"User": "1", "Env": ["API_TOKEN=x"]}) == ["variable API_TOKEN looks like a secret"]

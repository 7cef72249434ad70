"""Assets by content, over the wire: what is there is not uploaded again, and a name and version never change their meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from intermodal.backends.azureml.emulator.client import Credential, connect
from intermodal.backends.azureml.emulator.plane import Plane, running
from intermodal.errors import BadInput
from intermodal.jobs import ensure_data_asset_uploaded, image_environment, register_data_asset
from tests.backends.azureml.emulator.wire.local import LocalExecutor
from tests.support.azurite import TOOLS


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running(tmp_path_factory.mktemp("workspace"), LocalExecutor, tools=TOOLS) as plane:
        yield plane


@pytest.fixture
def client(plane: Plane) -> Iterator[Any]:
    with connect(plane.folder) as client:
        yield client


def folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / f"{name}.txt").write_text(content)
    return path


def test_equal_content_is_uploaded_once_and_changed_content_is_another_version(
    plane: Plane, client: Any, tmp_path: Path
):
    first = ensure_data_asset_uploaded(client, "numbers", folder(tmp_path / "a", one="1", two="2"), tags={"by": "test"})
    got = plane.download(str(first.path), tmp_path / "got")
    assert {item.name: item.read_text() for item in got.iterdir()} == {"one.txt": "1", "two.txt": "2"}
    assert first.tags["by"] == "test" and first.tags["intermodal.sha256"].startswith(first.version)

    # A copy elsewhere is the same content. Had it been sent again, the asset would have lost its tag.
    again = ensure_data_asset_uploaded(client, "numbers", folder(tmp_path / "b", one="1", two="2"))
    assert (again.version, again.path, again.tags["by"]) == (first.version, first.path, "test")
    changed = ensure_data_asset_uploaded(client, "numbers", folder(tmp_path / "c", one="1", two="3"))
    assert changed.version != first.version and changed.path != first.path
    assert len(list(client.data.list(name="numbers"))) == 2


def test_what_could_not_be_uploaded_as_it_is_is_refused(client: Any, tmp_path: Path):
    ignoring = folder(tmp_path / "a", one="1")
    (ignoring / ".gitignore").write_text("one.txt\n")
    linked = folder(tmp_path / "b", one="1")
    (linked / "link").symlink_to("one.txt")
    for path, words in (
        (ignoring, "holds a .gitignore"),
        (linked, "link"),
        (folder(tmp_path / "c"), "is empty"),
        (tmp_path / "nowhere", "is no folder"),
    ):
        with pytest.raises(BadInput, match=words):
            ensure_data_asset_uploaded(client, "numbers", path)
    with pytest.raises(BadInput, match="a name has letters"):
        ensure_data_asset_uploaded(client, "a b", ignoring)


def test_a_version_never_comes_to_mean_another_address(client: Any):
    here = "azureml://datastores/workspaceblobstore/paths/archive/"
    first = register_data_asset(client, "archive", here, version="1", description="old")
    assert register_data_asset(client, "archive", here.rstrip("/"), version="1").id == first.id
    with pytest.raises(
        BadInput, match=r"archive:1 is .*archive.*, not azureml://datastores/workspaceblobstore/paths/other"
    ):
        register_data_asset(client, "archive", "azureml://datastores/workspaceblobstore/paths/other", version="1")
    assert register_data_asset(client, "archive", here.replace("archive", "other"), version="2").version == "2"
    with pytest.raises(BadInput, match="is no address"):
        register_data_asset(client, "archive", "./folder", version="3")


def test_an_error_of_the_service_is_not_taken_for_a_missing_asset(plane: Plane, tmp_path: Path):
    from azure.core.exceptions import ClientAuthenticationError

    too_late = Credential(plane.identity, lifetime=-60)
    with connect(plane.folder, too_late) as client, pytest.raises(ClientAuthenticationError):
        ensure_data_asset_uploaded(client, "numbers", folder(tmp_path / "a", one="1"))


def test_an_image_is_one_environment_however_often_it_is_made(client: Any):
    image = "name.azurecr.io/x@sha256:" + "a" * 64
    for _ in range(2):
        client.environments.create_or_update(image_environment(image))
    (version,) = client.environments.list(name=image_environment(image).name)
    assert version.version == "1" and client.environments.get(version.name, version="1").image == image

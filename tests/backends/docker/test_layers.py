"""Packages on top of a real image, as a real pip in it leaves them."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker.errors as docker_errors
import pytest

from intermodal.backends.docker import layers
from intermodal.backends.docker.layers import LABEL_LIST, LABEL_PACKAGES, LABEL_PARENT
from intermodal.engine.backend import Image, Packages, Wheel, extended
from intermodal.engine.database import AttemptStart, Database
from intermodal.engine.layout import StateFolder
from intermodal.errors import EnvironmentProblem
from intermodal.testing.wheels import make_wheel, pack
from tests.support.command import Command

pytestmark = pytest.mark.engine

LOOK = """
import colorsys, json, os, shutil, subprocess, sys
from importlib.metadata import distribution, entry_points
import wanted
print(json.dumps({
    "value": wanted.VALUE, "file": wanted.__file__, "version": distribution("intermodal-wanted").version,
    "stdlib": colorsys.__file__, "script": subprocess.run(["wanted-hello"], capture_output=True, text=True).stdout,
    "old": os.path.exists(os.path.join(os.path.dirname(wanted.__file__), "only_in_one.py")), "cached": bool(wanted.__cached__),
}))
"""


@pytest.fixture(scope="session")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return pack(tmp_path_factory.mktemp("pip"), "pip")


@pytest.fixture
def made(docker) -> Iterator[list[str]]:
    """Ids of images that a test makes; gone afterwards."""
    ids: list[str] = []
    yield ids
    for identity in reversed(ids):
        with contextlib.suppress(docker_errors.NotFound):  # an untagged parent goes with its last child
            docker.backend._client.remove_image(identity, force=True)


def wheel(folder: Path, version: str) -> Wheel:
    files = {
        "wanted.py": f"VALUE = {version!r}\ndef hello():\n    print('hello', VALUE)\n",
        "colorsys.py": "raise ImportError('the standard library comes first')\n",
        **({"only_in_one.py": ""} if version == "1.0" else {}),
    }
    return make_wheel(folder, "intermodal-wanted", version, files, scripts={"wanted-hello": "wanted:hello"})


def look(docker, image: Image) -> dict[str, object]:
    launch = docker.launch("python3", "-c", LOOK, image=image)
    ended = docker.run(launch)
    assert ended.failure is None, launch.log.read_text()
    seen: dict[str, object] = json.loads(launch.log.read_text())
    return seen


def names(client, image: Image, folder: str) -> list[str]:
    container = client.create_container(image.id, command=["-"])["Id"]
    try:
        chunks, _ = client.get_archive(container, folder)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            return sorted(archive.getnames())
    finally:
        client.remove_container(container)


def test_packages_are_as_after_an_installation_in_the_image(docker, base_image, pip, made, tmp_path):
    packages = Packages((wheel(tmp_path, "1.0"),), pip)
    image = docker.backend.install(base_image, packages)
    made.append(image.id)
    assert image.digest == extended(base_image, packages) != base_image.digest
    seen = look(docker, image)
    assert seen == {
        "value": "1.0",
        "file": "/usr/local/lib/python3.11/dist-packages/wanted.py",
        "version": "1.0",
        "stdlib": "/usr/lib/python3.11/colorsys.py",
        "script": "hello 1.0\n",
        "old": True,
        "cached": True,
    }
    # A newer version takes the place of the older one, and leaves nothing of it.
    newer = docker.backend.install(image, Packages((wheel(tmp_path, "2.0"),), pip))
    made.append(newer.id)
    assert (seen := look(docker, newer))["version"] == seen["value"] == "2.0"
    assert seen["old"] is False
    assert look(docker, image)["version"] == "1.0"


def test_the_image_stays_what_it_was_and_says_that_it_is_ours(docker, base_image, pip, made, tmp_path):
    client = docker.backend._client
    parent = client.inspect_image(base_image.id)
    image = docker.backend.install(base_image, Packages((wheel(tmp_path, "1.0"),), pip))
    made.append(image.id)
    details = client.inspect_image(image.id)
    for part in ("Env", "Cmd", "WorkingDir"):
        assert details["Config"][part] == parent["Config"][part], part
    assert not details["Config"]["Entrypoint"]
    labels = details["Config"]["Labels"]
    assert labels[LABEL_PACKAGES] == image.digest
    assert labels[LABEL_PARENT] == base_image.id
    assert labels[LABEL_LIST] == "intermodal-wanted==1.0"
    assert parent["Config"]["Labels"].items() <= labels.items()
    assert details["RepoTags"]
    assert len(details["RootFS"]["Layers"]) == len(parent["RootFS"]["Layers"]) + 1
    assert client.containers(all=True, filters={"label": "io.intermodal.build"}) == []
    assert names(client, image, "/tmp") == ["tmp"], "nothing of the making is in the layer"
    assert names(client, image, "/root") == names(client, base_image, "/root")


def test_an_image_with_an_entry_point_and_a_user_keeps_them(docker, base_image, pip, made, tmp_path):
    client = docker.backend._client
    container = client.create_container(base_image.id, command=["-"])["Id"]
    changes = ['ENTRYPOINT ["python3", "-c"]', 'CMD ["print(1)"]', "USER 1234:55", "WORKDIR /srv", "ENV A=b"]
    parent = client.commit(container, changes=changes)["Id"]
    client.remove_container(container)
    made.append(parent)
    other = Image("other:1", parent, "sha256:other")
    image = docker.backend.install(other, Packages((wheel(tmp_path, "1.0"),), pip))
    made.append(image.id)
    config = client.inspect_image(image.id)["Config"]
    assert config["Entrypoint"] == ["python3", "-c"]
    assert config["Cmd"] == ["print(1)"]
    assert (config["User"], config["WorkingDir"]) == ("1234:55", "/srv")
    assert "A=b" in config["Env"]
    assert image.reference == "other:1"


def test_the_same_packages_are_installed_once_by_whoever_asks_first(docker, base_image, pip, made, tmp_path):
    packages = Packages((wheel(tmp_path, "3.0"),), pip)
    found: list[Image] = []
    threads = [
        threading.Thread(target=lambda: found.append(docker.backend.install(base_image, packages))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.append(found[0].id)
    assert found == [found[0]] * 4
    ours = docker.backend._client.images(all=True, filters={"label": f"{LABEL_PACKAGES}={found[0].digest}"})
    assert [item["Id"] for item in ours] == [found[0].id]


def test_images_that_no_kept_run_used_go_when_they_are_asked_to(docker, base_image, pip, made, tmp_path):
    client, command = docker.backend._client, Command(tmp_path, tmp_path / "state")
    others = [image.id for image in layers.made(client)]  # of whoever else uses this engine
    used, unused, held = (docker.backend.install(base_image, Packages((wheel(tmp_path, v),), pip)) for v in "456")
    made += [used.id, unused.id, held.id]
    database = Database(StateFolder.at(tmp_path / "state").database)
    database.add_run("r", "p", "d", "docker", "{}", ("{}", ""), "{}")
    for number, image in enumerate([used.id, *others]):
        database.start_attempt(("r", "t", number), "c", {"state": "RUNNING"}, AttemptStart(image, "", "{}", 1, "", ""))
    database.close()
    container = client.create_container(held.id, command=["-"])["Id"]
    try:
        said = json.loads(command("gc", "--images", "--json").stdout)
        assert not said["removed"] and {unused.id, held.id} <= said["images"].keys()
        assert used.id not in said["images"]
        assert "intermodal-wanted==5" in said["images"][unused.id]
    finally:
        client.remove_container(container)
    client.remove_image(held.id)
    assert command("gc", "--yes").returncode == 0
    assert client.inspect_image(unused.id), "only on demand"
    assert unused.id in json.loads(command("gc", "--images", "--yes", "--json").stdout)["images"]
    with pytest.raises(docker_errors.NotFound):
        client.inspect_image(unused.id)
    assert client.inspect_image(used.id)


def test_a_broken_wheel_is_one_line_that_names_it(docker, base_image, pip, tmp_path):
    good = wheel(tmp_path, "1.0")
    good.path.write_bytes(b"not a wheel")
    broken = replace(good, sha256="0" * 64)
    with pytest.raises(EnvironmentProblem, match=r"intermodal_wanted-1\.0") as caught:
        docker.backend.install(base_image, Packages((broken,), pip))
    assert "\n" not in caught.value.message
    client = docker.backend._client
    assert client.images(filters={"label": f"{LABEL_PACKAGES}={extended(base_image, Packages((broken,), pip))}"}) == []
    assert client.containers(all=True, filters={"label": "io.intermodal.build"}) == []

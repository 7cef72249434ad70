"""Engines that do not answer or do not share files; images that are not there; identity of content."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time

import pytest

from intermodal.backends.docker import DockerBackend, probe
from intermodal.backends.docker.client import connect
from intermodal.backends.docker.engine import Machine
from intermodal.errors import EnvironmentProblem

pytestmark = pytest.mark.engine


def test_no_engine_is_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"unix:///nonexistent/docker\.sock") as caught:
        DockerBackend().prepare(tmp_path)
    assert time.monotonic() - started < 2
    assert "BACKEND=process" in (caught.value.hint or "")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "nonsense://x"])
def test_a_wrong_address_is_an_environment_problem(monkeypatch, host):
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EnvironmentProblem, match="no Docker engine answers"):
        connect()


@pytest.fixture
def contexts(tmp_path, monkeypatch):
    """A docker configuration with one context, `far`, whose engine is not there."""
    folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest()
    folder.mkdir(parents=True)
    endpoint = {"Host": "unix:///far/away.sock", "SkipTLSVerify": False}
    (folder / "meta.json").write_text(json.dumps({"Name": "far", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return tmp_path


def test_the_current_context_is_followed(contexts):
    (contexts / "config.json").write_text('{"currentContext": "far"}')
    with pytest.raises(EnvironmentProblem, match=r"no Docker engine answers at unix:///far/away\.sock"):
        connect()
    assert Machine.this().configured


def test_the_context_of_the_environment_is_followed(contexts, monkeypatch):
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    with pytest.raises(EnvironmentProblem, match=r"no Docker engine answers at unix:///far/away\.sock"):
        connect()


def test_a_context_that_does_not_exist_is_not_the_default_engine(contexts, monkeypatch):
    monkeypatch.setenv("DOCKER_CONTEXT", "absent")
    with pytest.raises(EnvironmentProblem, match="docker context 'absent' does not exist"):
        connect()


def test_the_probe_passes_here_and_leaves_nothing(docker):
    client = docker.backend._client
    probe.probe(client, docker.state)
    assert list(docker.state.glob("probe-*")) == []
    tags = [tag for image in client.images() for tag in image["RepoTags"] or ()]
    assert not [tag for tag in tags if tag.startswith("intermodal-probe")]
    assert client.containers(all=True, filters={"label": "io.intermodal.probe"}) == []


def test_a_pair_of_engine_and_folder_is_asked_once(docker, tmp_path_factory):
    client = docker.backend._client

    def probes(folder, engine):
        since = int(time.time()) - 1
        before = made(client, since)
        probe.check_sharing(client, folder, engine)
        return made(client, since) - before

    def made(client, since):
        filters = {"event": "create", "label": "io.intermodal.probe=1"}
        return sum(1 for _ in client.events(since=since, until=f"{time.time():.6f}", filters=filters, decode=True))

    other = tmp_path_factory.mktemp("other")
    asked = [
        probes(docker.state, "one"),
        probes(docker.state, "one"),
        probes(docker.state, "two"),
        probes(other, "one"),
    ]
    assert asked == [1, 0, 1, 1]


def test_an_engine_that_sees_another_folder_is_refused(docker):
    """A container whose mount is a different folder behaves as an engine on another machine does."""
    client = docker.backend._client
    here, there = docker.state / "here", docker.state / "there"
    here.mkdir()
    there.mkdir()
    (here / "from-here").write_bytes(b"token")
    (there / "from-here").write_bytes(b"token")
    mount = {"Type": "bind", "Source": str(there), "Target": "/probe"}
    container = client.create_container(
        docker.image.id, command=["-"], host_config=client.create_host_config(mounts=[mount])
    )["Id"]
    try:
        with pytest.raises(EnvironmentProblem, match="does not appear here"):
            probe._compare(client, container, here, b"token")
        (there / "from-here").write_bytes(b"other")
        with pytest.raises(EnvironmentProblem, match="reads differently there"):
            probe._compare(client, container, here, b"token")
    finally:
        client.remove_container(container, force=True)


def test_an_image_of_ours_is_never_pulled(docker):
    with pytest.raises(EnvironmentProblem, match="intermodal/nothing:dev is not built") as caught:
        docker.backend.resolve_image("intermodal/nothing:dev")
    assert caught.value.hint == "make images"


@pytest.mark.parametrize("reference", ["localhost:1/no/such:tag", "Not A Reference"])
def test_an_image_that_cannot_be_pulled_is_named(docker, reference):
    with pytest.raises(EnvironmentProblem, match=reference):
        docker.backend.resolve_image(reference)


def _import(client, files, changes=(), mtime=0):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), mtime
            archive.addfile(member, io.BytesIO(content))
    name = f"intermodal-test-{time.monotonic_ns()}"
    client.import_image_from_data(buffer.getvalue(), repository=name, tag="t", changes=list(changes))
    return f"{name}:t"


def test_identity_is_content_and_run_configuration(docker):
    client = docker.backend._client
    plain = {"a": b"1", "b/c": b"2", "var/log/dpkg.log": b"then"}
    made = {
        "same": [
            _import(client, plain, mtime=1),
            _import(client, dict(reversed(plain.items())), mtime=99),
            _import(client, plain | {"var/log/dpkg.log": b"now", "b/__pycache__/c.cpython-311.pyc": b"stamp"}, mtime=5),
        ],
        "content": [_import(client, plain | {"a": b"!"})],
        "name": [_import(client, plain | {"b/d": b"2"})],
        "config": [_import(client, plain, changes=["ENV X=1"])],
    }
    try:
        digests = {kind: {docker.backend.resolve_image(name).digest for name in names} for kind, names in made.items()}
        flat = [next(iter(values)) for kind, values in digests.items() if kind != "same"]
        assert len(set(flat)) == 3
        assert not digests["same"] & set(flat)
        assert len(digests["same"]) == 1
    finally:
        for names in made.values():
            for name in names:
                client.remove_image(name, force=True)


def test_identity_is_remembered_by_image_id(docker):
    first = docker.backend.resolve_image(docker.image.reference)
    memo = next((docker.state / "images").iterdir())
    memo.write_text("sha256:" + "a" * 64)
    assert docker.backend.resolve_image(docker.image.reference).digest == "sha256:" + "a" * 64
    memo.write_text("damaged")
    assert docker.backend.resolve_image(docker.image.reference) == first

"""The container contract, seen from inside a real container."""

from __future__ import annotations

import json
import os
from pathlib import PurePosixPath

import pytest

from intermodal.backends.docker import DockerBackend
from intermodal.backends.docker.container import EngineTraits
from intermodal.engine.backend import Limits, Mount

pytestmark = pytest.mark.engine

LOOK = """
import json, os, socket
def attempt(action):
    try:
        return str(action())
    except OSError as error:
        return type(error).__name__ + ':' + str(error.errno)
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
json.dump({
    'uid': os.getuid(), 'gid': os.getgid(), 'pid1': open('/proc/1/comm').read().strip(),
    'root': attempt(lambda: open('/new', 'w')), 'tmp': attempt(lambda: open('/tmp/new', 'w').write('x')),
    'home': os.environ['HOME'], 'expand': os.path.expanduser('~'), 'extra': os.environ.get('EXTRA'),
    'capabilities': [int(status[name], 16) for name in ('CapEff', 'CapPrm', 'CapBnd')],
    'no_new_privileges': status['NoNewPrivs'].strip(), 'interfaces': sorted(os.listdir('/sys/class/net')),
    'cwd': os.getcwd(),
}, open('/kfp/outputs/seen.json', 'w'))
"""


def test_a_step_is_confined(docker):
    launch = docker.code(LOOK, env={"EXTRA": "a b=c"})
    ended = docker.run(launch)
    assert ended.failure is None, launch.log.read_text()
    seen = json.loads((launch.attempt_dir / "outputs/seen.json").read_text())
    user = os.getuid() or 10001
    assert (seen["uid"], seen["gid"]) == (user, os.getgid() or 10001)
    assert seen["pid1"] == "docker-init"
    assert seen["root"] == "OSError:30"
    assert seen["tmp"] == "1"
    assert seen["home"] == seen["expand"] == "/tmp"
    assert seen["extra"] == "a b=c"
    assert seen["capabilities"] == [0, 0, 0]
    assert seen["no_new_privileges"] == "1"
    assert seen["interfaces"] == ["lo"]
    assert (launch.attempt_dir / "outputs/seen.json").stat().st_uid == user


def test_network_only_where_it_is_asked_for(docker):
    launch = docker.code(LOOK, network="bridge")
    assert docker.run(launch).failure is None
    assert "eth0" in json.loads((launch.attempt_dir / "outputs/seen.json").read_text())["interfaces"]


def test_limits_reach_the_kernel(docker):
    launch = docker.launch("true", limits=Limits(cpus=0.5, memory=128 * 2**20, shm=32 * 2**20, pids=77))
    handle = docker.backend.start(launch)
    try:
        host = docker.backend._client.inspect_container(handle)["HostConfig"]
    finally:
        docker.backend.wait(handle, launch)
        docker.backend.remove(handle)
    assert host["NanoCpus"] == 500_000_000
    assert host["Memory"] == host["MemorySwap"] == 128 * 2**20
    assert host["ShmSize"] == 32 * 2**20
    assert host["PidsLimit"] == 77
    assert host["AutoRemove"] is False


def test_arguments_pass_no_shell(docker):
    odd = ["$(id)", "a b", "'\"", ";", "", "{{$.inputs}}", "-rf", "ü\n"]
    launch = docker.launch(
        "python3", "-c", "import json,sys; json.dump(sys.argv[1:], open('/kfp/outputs/a', 'w'))", args=tuple(odd)
    )
    assert docker.run(launch).failure is None
    assert json.loads((launch.attempt_dir / "outputs/a").read_text()) == odd


def test_inputs_cannot_be_written_and_volumes_can(docker):
    folder = docker.state / "in put:with,odd=signs"
    folder.mkdir()
    (folder / "file.txt").write_text("content")
    volume = docker.state / "volumes" / "study:1"
    volume.mkdir(parents=True)
    launch = docker.launch(
        "sh",
        "-c",
        "cat '/kfp/inputs/a b:c/file.txt' /kfp/inputs/one && echo kept > /state/x && ! echo > '/kfp/inputs/a b:c/new'",
        mounts=(
            Mount(folder, PurePosixPath("/kfp/inputs/a b:c")),
            Mount(folder / "file.txt", PurePosixPath("/kfp/inputs/one")),
            Mount(volume, PurePosixPath("/state"), read_only=False),
        ),
    )
    ended = docker.run(launch)
    assert ended.failure is None, launch.log.read_text()
    assert b"contentcontent" in launch.log.read_bytes()
    assert b"Read-only file system" in launch.log.read_bytes()
    assert (volume / "x").read_text() == "kept\n"


def test_outputs_whose_parents_exist_are_writable(docker):
    launch = docker.launch("sh", "-c", "echo 1 > /kfp/outputs/deep/er/value")
    (launch.attempt_dir / "outputs/deep/er").mkdir(parents=True)
    assert docker.run(launch).failure is None
    assert (launch.attempt_dir / "outputs/deep/er/value").read_text() == "1\n"


def test_without_a_command_the_arguments_are_run(docker):
    launch = docker.launch(args=("sh", "-c", "echo from args"))
    assert docker.run(launch).failure is None
    assert launch.log.read_bytes() == b"from args\n"


def test_cleanup_removes_only_the_run(docker, tmp_path):
    other = docker.code("import time; time.sleep(60)", run_id=docker.run_id + "-other")
    kept = docker.backend.start(other)
    for _ in range(3):
        docker.backend.start(docker.code("import time; time.sleep(60)"))
    client = docker.backend._client
    try:
        assert docker.backend.cleanup(docker.run_id) == 3
        label = {"label": f"io.intermodal.run={docker.run_id}"}
        assert client.containers(all=True, filters=label) == []
        assert client.inspect_container(kept)["State"]["Running"]
    finally:
        assert docker.backend.cleanup(docker.run_id + "-other") == 1
    assert docker.backend.cleanup(docker.run_id) == 0


def test_another_state_folder_is_not_ours_to_clean(docker, tmp_path_factory):
    docker.backend.start(docker.code("import time; time.sleep(60)"))
    other = DockerBackend()
    try:
        other.prepare(tmp_path_factory.mktemp("other"))
        assert other.cleanup(docker.run_id) == 0
    finally:
        other.close()
    assert docker.backend.cleanup(docker.run_id) == 1


@pytest.mark.parametrize(
    ("info", "user", "userns"),
    [
        ({}, f"{os.getuid() or 10001}:{os.getgid() or 10001}", None),
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "0:0", None),
        ({"SecurityOptions": ["name=userns"]}, f"{os.getuid() or 10001}:{os.getgid() or 10001}", "host"),
    ],
)
def test_user_by_kind_of_engine(info, user, userns):
    traits = EngineTraits.of(info)
    assert (traits.user, traits.userns) == (user, userns)

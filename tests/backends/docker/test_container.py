"""The container contract, seen from inside a real container."""

from __future__ import annotations

import json
import os

import pytest

from intermodal.backends.docker.container import EngineTraits
from intermodal.engine.backend import Limits

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

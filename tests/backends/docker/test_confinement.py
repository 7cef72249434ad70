"""What a step can reach from inside its container, looked at from there: the claims of docs/threat-model.md."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import pytest

from intermodal.engine.backend import Limits, Mount
from intermodal.engine.failure import FailureClass
from intermodal.errors import EnvironmentProblem

pytestmark = pytest.mark.engine
MIB = 2**20

LOOK = r"""
import ctypes, errno, json, os, resource, socket, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(action, *arguments):
    try:
        value = action(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    if isinstance(value, int) and value == -1 and ctypes.get_errno():
        return errno.errorcode[ctypes.get_errno()]
    return 'done'
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
writable, sockets, found = [], [], []
for base, folders, files in os.walk('/'):
    if base.startswith(('/proc', '/sys')):
        folders[:] = []
        continue
    if os.access(base, os.W_OK):
        writable.append(base)
    for name in folders + files:
        path = os.path.join(base, name)
        if 'canary' in name:
            found.append(path)
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                sockets.append(path)
        except OSError:
            pass
def read(path):
    try:
        return open(path, 'rb').read(64)
    except OSError as error:
        return errno.errorcode[error.errno].encode()
def connect(address):
    with socket.socket() as endpoint:
        endpoint.settimeout(3)
        endpoint.connect(address)
json.dump({
    'writable': sorted(writable), 'sockets': sockets, 'found': found,
    'capabilities': {name: int(status[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')},
    'seccomp': status['Seccomp'].strip(), 'privileges': status['NoNewPrivs'].strip(), 'groups': status['Groups'].split(),
    'processes': sorted(int(name) for name in os.listdir('/proc') if name.isdigit()),
    'masked': {path: read(path).decode('latin1') for path in ('/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/sched_debug')},
    'firmware': os.listdir('/sys/firmware'),
    'devices': sorted(os.listdir('/dev')),
    'core': resource.getrlimit(resource.RLIMIT_CORE),
    'calls': {
        'sysrq': call(lambda: open('/proc/sysrq-trigger', 'w').write('h')),
        'sysctl': call(lambda: open('/proc/sys/kernel/hostname', 'w').write('x')),
        'cgroup': call(lambda: os.mkdir('/sys/fs/cgroup/memory/x' if os.path.isdir('/sys/fs/cgroup/memory') else '/sys/fs/cgroup/x')),
        'mknod': call(os.mknod, '/tmp/disk', stat.S_IFBLK | 0o600, os.makedev(8, 0)),
        'mount': call(libc.mount, b'none', b'/tmp', b'tmpfs', 0, None),
        'namespace': call(libc.unshare, 0x10000000),
        'hostname': call(socket.sethostname, 'x'),
        'clock': call(lambda: __import__('time').clock_settime(0, 0)),
        'chroot': call(os.chroot, '/tmp'),
        'setuid': call(os.setuid, 0),
        'keyring': call(libc.syscall, 250, 1, 0, 0, 0, 0),
        'raw socket': call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        'internet': call(connect, ('1.1.1.1', 53)),
        'bridge': call(connect, ('172.17.0.1', 22)),
        'metadata': call(connect, ('169.254.169.254', 80)),
        'link from an input': call(os.link, '/kfp/inputs/x/file', '/kfp/outputs/stolen'),
        'write to an input': call(lambda: open('/kfp/inputs/x/file', 'a')),
        'chmod of an input': call(os.chmod, '/kfp/inputs/x/file', 0o777),
        'remove an input': call(os.remove, '/kfp/inputs/x/file'),
    },
}, open('/kfp/outputs/seen.json', 'w'))
"""


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return {}


@pytest.fixture
def seen(docker, kept) -> dict[str, Any]:
    """What a step sees that has one input, beside another run's files. Looked at once."""
    if not kept:
        other = docker.state / "runs" / "other" / "tasks" / "t" / "attempt-1" / "outputs"
        other.mkdir(parents=True)
        (other / "canary").write_text("of another run")
        given = docker.state / "store" / "x"
        given.mkdir(parents=True)
        (given / "file").write_text("input")
        launch = docker.code(LOOK, mounts=(Mount(given, PurePosixPath("/kfp/inputs/x")),))
        ended = docker.run(launch)
        assert ended.failure is None, launch.log.read_text()
        kept |= json.loads((launch.attempt_dir / "outputs/seen.json").read_text())
        assert (given / "file").read_text() == "input"
    return kept


def test_only_scratch_and_its_outputs_can_be_written(seen):
    assert set(seen["writable"]) <= {"/dev/mqueue", "/dev/shm", "/kfp/outputs", "/tmp"}
    assert {"/kfp/outputs", "/tmp"} <= set(seen["writable"])


def test_no_privilege_is_left_and_none_can_be_had(seen):
    assert set(seen["capabilities"].values()) == {0}
    assert seen["privileges"] == "1" and seen["seccomp"] == "2"
    assert "0" not in seen["groups"]
    calls = seen["calls"]
    for name in ("mknod", "mount", "namespace", "hostname", "clock", "chroot", "setuid", "keyring", "raw socket"):
        assert calls[name] in ("EPERM", "EACCES"), name


def test_the_machine_is_out_of_reach(seen):
    assert seen["found"] == [] and seen["sockets"] == []
    assert len(seen["processes"]) <= 3
    assert all(content in ("", "ENOENT", "EACCES", "EPERM") for content in seen["masked"].values()), seen["masked"]
    assert seen["firmware"] == []
    assert not {"mem", "kmsg", "sda", "vda", "kvm", "fuse", "net"} & set(seen["devices"])
    for name in ("sysrq", "sysctl", "cgroup"):
        assert seen["calls"][name] in ("EROFS", "EACCES", "EPERM", "ENOENT"), name
    assert seen["core"] == [0, 0]


def test_there_is_no_network(seen):
    for name in ("internet", "bridge", "metadata"):
        assert seen["calls"][name] == "ENETUNREACH"


def test_an_input_cannot_be_changed_or_taken_over(seen):
    assert seen["calls"]["link from an input"] in ("EXDEV", "EPERM")
    for name in ("write to an input", "chmod of an input", "remove an input"):
        assert seen["calls"][name] in ("EROFS", "EACCES", "EPERM"), name


def test_a_fork_bomb_ends_at_its_limit(docker):
    source = (
        "import os, time\ncount = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60); os._exit(0)\n        count += 1\n"
        "except BlockingIOError: print(count, flush=True); raise SystemExit(3)"
    )
    launch = docker.code(source, limits=Limits(pids=64))
    ended = docker.run(launch)
    assert ended.exit_code == 3 and int(launch.log.read_text()) < 64


def test_scratch_space_is_the_steps_memory(docker):
    for folder in ("/tmp", "/dev/shm"):
        source = f"import shutil\nwith open('{folder}/x', 'wb') as f:\n    for _ in range(400): f.write(bytes(2**20))"
        ended = docker.run(docker.code(source, limits=Limits(memory=64 * MIB, shm=512 * MIB)))
        assert ended.failure is not None and ended.failure.kind is FailureClass.OOM, (folder, ended)


def test_a_step_without_a_limit_ends_before_the_machine(docker):
    launch = docker.launch("true", limits=Limits())
    handle = docker.backend.start(launch)
    try:
        client = docker.backend._client
        found, machine = client.inspect_container(handle), client.info()["MemTotal"]
    finally:
        docker.backend.wait(handle, launch)
        docker.backend.remove(handle)
    host = found["HostConfig"]
    assert 0.5 * machine < host["Memory"] < machine and host["MemorySwap"] == host["Memory"]
    assert host["Tmpfs"]["/tmp"].endswith(f"size={host['Memory']}")
    assert not host["Privileged"] and host["PidMode"] == "" and host["IpcMode"] == "private" and not host["Binds"]
    assert found["Config"]["StopSignal"] == "SIGTERM" and found["Config"]["Healthcheck"]["Test"] == ["NONE"]


@pytest.mark.parametrize(
    "reference",
    [
        "../../containers/json?x=",
        "../../info",
        "-rf",
        "a b",
        "$(id)",
        "x\n",
        "x\0",
        "",
        "http://x/y",
        "A",
        "x" * 70_000 + "!",
    ],
)
def test_a_reference_does_not_leave_its_place_in_a_request(docker, reference):
    with pytest.raises(EnvironmentProblem, match="no reference to an image") as error:
        docker.backend.resolve_image(reference)
    assert error.value.message.isprintable() and len(error.value.message) <= 1000

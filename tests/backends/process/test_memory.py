"""Processes that the kernel kills for memory: counted where the kernel counts them, and seen by the supervisor of a real step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intermodal.backends.process.memory import memory_kills

PACKAGE = Path(__file__).parents[3]
HOG = "bytearray(400 * 2**20)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{HOG}'])"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "proc/self/cgroup": "5:cpu:/a\n4:memory:/a/b\n0::/\n",
                "sys/fs/cgroup/memory/a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
                "sys/fs/cgroup/memory/memory.oom_control": "oom_kill 9\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/0123\n",
                "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "0::/user.slice\n",
                "sys/fs/cgroup/user.slice/memory.events": "low 0\nhigh 0\nmax 5\noom 1\noom_kill 4\noom_group_kill 0\n",
            },
            4,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.events": "oom 1\noom_kill 1\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "proc/vmstat": "pgfault 1\noom_kill 7\n"}, 7),
        # In a cgroup that cannot be read the counter of the whole machine says nothing about this one.
        ({"proc/self/cgroup": "0::/user.slice\n", "proc/vmstat": "oom_kill 7\n"}, None),
        ({}, None),
    ],
)
def test_where_kills_are_counted(tmp_path: Path, files: dict[str, str], expected: int | None):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert memory_kills(tmp_path) == expected


@pytest.mark.engine
@pytest.mark.parametrize(
    ("source", "code", "oom"),
    [
        (HOG, -9, True),
        (f"{CHILD}; sys.exit(1)", 1, True),
        (f"{CHILD}; print('all is well')", 0, True),
        ("pass", 0, False),
    ],
    ids=["step", "child-exit-1", "child-exit-0", "none"],
)
def test_a_kill_in_a_step_is_seen_whatever_the_step_says(docker, tmp_path: Path, source: str, code: int, oom: bool):
    """The supervisor in a container with a memory limit: a machine with little memory and no engine."""
    folder = tmp_path / "work"
    (folder / "tmp").mkdir(parents=True)
    specification = {
        "argv": ["python3", "-c", source],
        "cwd": "/",
        "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
        "log": "/work/log.txt",
        "log_cap": 2**20,
    }
    (folder / "launch.json").write_text(json.dumps(specification))
    client = docker.backend._client
    host = client.create_host_config(
        binds=[f"{PACKAGE}:/package:ro", f"{folder}:/work"], mem_limit=2**27, memswap_limit=2**27, network_mode="none"
    )
    command = ["python3", "-m", "intermodal.backends.process.supervisor", "/work/launch.json"]
    container = client.create_container(
        docker.image.id,
        command=command,
        host_config=host,
        working_dir="/package",
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    )["Id"]
    try:
        client.start(container)
        assert client.wait(container, timeout=120)["StatusCode"] == 0, client.logs(container)
    finally:
        client.remove_container(container, force=True)
    result = json.loads((folder / "exit.json").read_text())
    assert (result["code"], result["oom"]) == (code, oom)

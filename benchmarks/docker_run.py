"""The bare peer: `docker run` with the flags that a step's container has."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from benchmarks.command import IMAGE

FLAGS = (
    "--rm", "--init", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "4096",
    "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777", "--network", "none", "--user", "10001:10001",
    "--log-driver", "local", "--entrypoint", "",
)  # fmt: skip


def docker_run(*command: str, mounts: Sequence[str] = ()) -> None:
    """Run one command in a container as a step runs it. Raises CalledProcessError if it fails."""
    volumes = [word for mount in mounts for word in ("--volume", mount)]
    subprocess.run(
        ["docker", "run", *FLAGS, *volumes, IMAGE, *command],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

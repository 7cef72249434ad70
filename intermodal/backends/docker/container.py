"""What a step's container looks like: the container contract written as engine settings."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from docker import APIClient
from docker.types import DeviceRequest, Healthcheck, LogConfig, Mount, Ulimit

from intermodal.backends.docker.temporary import owner_labels
from intermodal.engine.backend import STEP_UID, Image, Launch, has_other_user

STEP_ROOT = PurePosixPath("/kfp")
LABEL_RUN = "io.intermodal.run"
LABEL_TASK = "io.intermodal.task"
LABEL_ATTEMPT = "io.intermodal.attempt"
LABEL_STATE = "io.intermodal.state"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OF_THE_MACHINE = 0.9
_DEEPEST = 64
"""Folders below this depth of a volume stay whose they are."""
SCRATCH_ENVIRONMENT: Mapping[str, str] = {
    "TMPDIR": "/tmp",
    "XDG_CACHE_HOME": "/tmp/.cache",
    "XDG_CONFIG_HOME": "/tmp/.config",
    "XDG_DATA_HOME": "/tmp/.local/share",
    "MPLCONFIGDIR": "/tmp/.config/matplotlib",
    "HF_HOME": "/tmp/.cache/huggingface",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/.cache/torchinductor",
    "NUMBA_CACHE_DIR": "/tmp/.cache/numba",
}
HOME_ENVIRONMENT: Mapping[str, str] = {
    **SCRATCH_ENVIRONMENT,
    "HOME": "/tmp",
    # Any uid must do, and most have no passwd entry: getpass.getuser() looks here first.
    "USER": "step",
    "LOGNAME": "step",
}


@dataclass(frozen=True)
class EngineTraits:
    """What differs from engine to engine."""

    user: str
    userns: str | None
    local_log_driver: bool
    identity: str = ""
    """What tells this engine from every other; empty if it does not say."""
    architecture: str = ""
    """As the kernel names it, e.g. x86_64."""
    desktop: bool = False
    """Docker Desktop, which emulates other architectures."""
    memory: int | None = None
    """Bytes that the engine's machine has."""

    @staticmethod
    def of(info: Mapping[str, Any]) -> EngineTraits:
        """Read the traits from the engine's `info`."""
        options = " ".join(info.get("SecurityOptions") or ())
        uid, gid = os.getuid(), os.getgid()
        if re.search(r"name=rootless", options):
            uid, gid = 0, 0  # of the user namespace: outside it is the caller
        elif uid == 0:
            uid, gid = STEP_UID, STEP_UID
        # A daemon that remaps users would make outputs belong to a uid nobody asked for.
        userns = "host" if re.search(r"name=userns", options) else None
        return EngineTraits(
            user=f"{uid}:{gid}",
            userns=userns,
            local_log_driver="local" in ((info.get("Plugins") or {}).get("Log") or ()),
            identity=str(info.get("ID") or ""),
            architecture=str(info.get("Architecture") or ""),
            desktop="Docker Desktop" in str(info.get("OperatingSystem")),
            memory=int(info.get("MemTotal") or 0) or None,
        )


def container_config(
    client: APIClient, launch: Launch, traits: EngineTraits, state: str, door: str = ""
) -> dict[str, Any]:
    """Return the create request for one attempt. `door` is the container whose loopback it shares, if it does."""
    limits = launch.limits
    user = "0:0" if "root" in launch.relax else None if "image-user" in launch.relax else traits.user
    own_home = has_other_user(launch.relax)
    # A step that asked for no limit ends before the machine does, and by its own cgroup, so that it is known why.
    memory = limits.memory or (int(traits.memory * _MOST_OF_THE_MACHINE) if traits.memory else None)
    host = client.create_host_config(
        init=True,
        read_only="writable-root" not in launch.relax,
        cap_drop=None if "capabilities" in launch.relax else ["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=limits.pids,
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=round(limits.cpus * 1e9) if limits.cpus else None,
        shm_size=limits.shm,
        # Its pages count as the step's memory, so the memory limit is its only useful bound.
        tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777" + (f",size={memory}" if memory else "")},
        ulimits=[Ulimit(name="core", soft=0, hard=0)],  # a dump would hold the step's secrets, and lie outside of it
        network_mode=f"container:{door}" if door else "bridge" if launch.network == "bridge" else "none",
        userns_mode=traits.userns,
        mounts=_mounts(launch),
        device_requests=[DeviceRequest(count=limits.gpus, capabilities=[["gpu"]])] if limits.gpus else None,
        log_config=_log_config(launch.log_cap) if traits.local_log_driver else None,
        auto_remove=False,
    )
    config: dict[str, Any] = client.create_container_config(
        image=launch.image.id,
        command=list(launch.args) or None,
        entrypoint=list(launch.command) or None,
        environment={**(SCRATCH_ENVIRONMENT if own_home else HOME_ENVIRONMENT), **launch.env},
        user=user,
        labels={
            **launch.labels,
            LABEL_RUN: launch.run_id,
            LABEL_TASK: launch.task,
            LABEL_ATTEMPT: str(launch.attempt),
            LABEL_STATE: state,
        },
        host_config=host,
        network_disabled=launch.network != "bridge" and not door,
        # What an image may set, and a step must not depend on.
        stop_signal="SIGTERM",
        healthcheck=Healthcheck(test=["NONE"]),
        stdin_open=False,
    )
    return config


def query_config(client: APIClient, image: Image, command: Sequence[str], traits: EngineTraits) -> dict[str, Any]:
    """Return the create request for a container that runs one short command and touches nothing."""
    host = client.create_host_config(
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=256,
        tmpfs={"/tmp": "rw,nosuid,nodev,mode=1777"},
        network_mode="none",
        userns_mode=traits.userns,
    )
    config: dict[str, Any] = client.create_container_config(
        image=image.id,
        command=None,
        entrypoint=list(command),
        environment=dict(HOME_ENVIRONMENT),
        user=traits.user,
        labels=owner_labels("query"),
        host_config=host,
        network_disabled=True,
    )
    return config


def _mounts(launch: Launch) -> list[Mount]:
    """Bind mounts in the long form, in which ':' and spaces in a path mean nothing."""
    outputs = Mount(str(STEP_ROOT / "outputs"), str((launch.attempt_dir / "outputs").absolute()), type="bind")
    others = (
        Mount(str(mount.target), str(mount.source.absolute()), type="bind", read_only=mount.read_only)
        for mount in launch.mounts
    )
    return [outputs, *others]


def _log_config(cap: int) -> LogConfig:
    """The `local` driver keeps bytes as they are (json-file replaces invalid UTF-8) and bounds what it keeps."""
    return LogConfig(type="local", config={"max-size": f"{4 * cap + 2**20}", "max-file": "2", "compress": "false"})


def hand_over(paths: Sequence[Path], user: str) -> None:
    """Give folders of ours (with all in them) to the step's user. Only root can, and only root needs to."""
    if os.getuid() != 0:
        return
    uid, gid = (int(part) for part in user.split(":"))
    for path in paths:
        descriptor = os.open(path, _FOLDER)
        try:
            os.chown(descriptor, uid, gid)
            _give(descriptor, uid, gid, _DEEPEST)
        finally:
            os.close(descriptor)


def _give(folder: int, uid: int, gid: int, depth: int) -> None:
    """Chown what an open folder holds. By descriptors: a step at work on the same volume may put a link where a folder was."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.chown(entry.name, uid, gid, dir_fd=folder, follow_symlinks=False)
                if depth and entry.is_dir(follow_symlinks=False):
                    inner = os.open(entry.name, _FOLDER, dir_fd=folder)
                    try:
                        _give(inner, uid, gid, depth - 1)
                    finally:
                        os.close(inner)


def open_up(attempt: Path) -> None:
    """Let the image's own user, whoever that is, write the outputs of an attempt; nobody else of this machine reaches them."""
    attempt.chmod(0o700)
    for base, _, _ in os.walk(attempt / "outputs"):
        Path(base).chmod(0o777)

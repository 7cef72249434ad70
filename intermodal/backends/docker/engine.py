"""Making sure that a Docker engine answers: uses the one that is there, starts or installs one only where that is safe."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from intermodal.backends.docker.client import DEFAULT_SOCKET, INSTALL_HINT, UnsupportedEngine, address, connect
from intermodal.errors import EnvironmentProblem

_START_SECONDS = 60.0
_ANSWER_SECONDS = 5.0
_LOG = Path("/var/log/dockerd.log")
_OS_RELEASE = Path("/etc/os-release")
_FALLBACKS: tuple[tuple[str, ...], ...] = (
    (),
    ("--iptables=false", "--ip6tables=false"),  # sandboxes without netfilter
    ("--iptables=false", "--ip6tables=false", "--bridge=none"),  # nor bridges: steps need no network anyway
    ("--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"),
)
"""Flags of dockerd, tried in turn: each gives up something that steps do not need."""


@dataclass(frozen=True)
class Machine:
    """What decides whether an engine may be installed here."""

    root: bool
    debian: bool
    configured: bool
    """The user names an engine (DOCKER_HOST, a context): starting another would not be what was asked for."""

    @staticmethod
    def this() -> Machine:
        return Machine(os.geteuid() == 0, _is_debian(_OS_RELEASE), address() != DEFAULT_SOCKET)


def ensure_engine(say: Callable[[str], None], *, machine: Machine | None = None, log: Path = _LOG) -> str:
    """Return the version of the engine that answers, after installing and starting one if need be.

    Only root on Debian or Ubuntu gets one installed, and `say` is told so in one line. Raises EnvironmentProblem in
    every other case, and with the daemon's last words if it does not come up.
    """
    try:
        return _version()
    except UnsupportedEngine:
        raise  # its socket is where another would be started
    except EnvironmentProblem as problem:
        machine = machine or Machine.this()
        if machine.configured or not machine.root or not machine.debian:
            raise
        missing = problem
    if shutil.which("dockerd") is None:
        say("no Docker engine: installing docker.io with apt and starting dockerd (root on Debian or Ubuntu)")
        _install()
    else:
        say("no Docker engine answers: starting dockerd")
    return _start(log, missing)


def _version() -> str:
    client = connect(timeout=_ANSWER_SECONDS)
    try:
        return str(client.version()["Version"])
    finally:
        client.close()


def _is_debian(release: Path) -> bool:
    try:
        lines = release.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    names = " ".join(values.get(key, "").strip('"') for key in ("ID", "ID_LIKE"))
    return bool({"debian", "ubuntu"} & set(names.split()))


def _install() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _apt(["apt-get", "update", "-q"], environment)
    # iptables is only recommended, but without it the daemon cannot make a bridge network.
    _apt(["apt-get", "install", "-q", "-y", "--no-install-recommends", "docker.io", "iptables"], environment)


def _apt(command: Sequence[str], environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise EnvironmentProblem("apt-get is not on this machine", hint=INSTALL_HINT) from error
    if done.returncode:
        words = _last_line(done.stderr) or _last_line(done.stdout)
        raise EnvironmentProblem(f"`{' '.join(command)}` failed: {words}", hint=INSTALL_HINT)


def _start(log: Path, missing: EnvironmentProblem) -> str:
    """Start dockerd detached, with fewer and fewer features until it answers."""
    words = ""
    for flags in _FALLBACKS:
        daemon = _spawn(flags, log)
        deadline = time.monotonic() + _START_SECONDS
        while daemon.poll() is None and time.monotonic() < deadline:
            try:
                return _version()
            except EnvironmentProblem:
                time.sleep(0.5)
        words = _last_line(log.read_bytes()) or "no message"
        if daemon.poll() is None:
            daemon.terminate()
            daemon.wait()
            break
    raise EnvironmentProblem(f"dockerd does not start: {words}", hint=f"see {log}; {INSTALL_HINT}") from missing


def _spawn(flags: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        try:
            return subprocess.Popen(
                ["dockerd", *flags],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise EnvironmentProblem(f"dockerd cannot be run: {error.strerror}", hint=INSTALL_HINT) from error


def _last_line(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""

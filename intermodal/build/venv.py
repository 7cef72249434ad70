"""Makes the project's environment: `python3 -m intermodal.build.venv` (`make venv`), with nothing but Python's own library.

uv is fetched from PyPI if it is missing. Debian and Ubuntu ship a Python without pip: root gets python3-pip from apt,
anybody else is told which package to install.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from intermodal.build.pip import read_pip_configuration
from intermodal.build.wheels import read_lock
from intermodal.errors import EnvironmentProblem

_OLDEST = (3, 11)


def make_environment(project: Path) -> None:
    """Make `.venv` hold exactly requirements/dev.txt and the project itself, editable. Raises EnvironmentProblem."""
    if sys.version_info < _OLDEST:
        raise EnvironmentProblem(
            f"Python {sys.version.split()[0]} is too old: 3.11 or newer is needed", hint="make PYTHON=python3.11 ..."
        )
    uv = find_uv(project)
    environment = _environment()
    python = install_lock(project, project / ".venv", project / "requirements/dev.txt")
    # hatchling is in the lock: no build environment of its own, no network.
    itself = ["--no-deps", "--no-build-isolation", "--offline", "--editable", "."]
    _run([uv, "pip", "install", "--quiet", "--python", python, *itself], environment)


def install_lock(project: Path, folder: Path, lock: Path) -> str:
    """Make an environment in `folder` that holds exactly what `lock` lists; return its Python. Raises EnvironmentProblem."""
    uv = find_uv(project)
    environment = _environment()
    python = str(folder / "bin/python")
    print(f"making {folder} as {lock.name} says", file=sys.stderr, flush=True)
    _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)], environment)
    # Byte code is compiled once, here: uv leaves it to the first import, which then takes seconds, or never keeps it.
    _run(
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", "--python", python, str(lock)],
        environment,
    )
    return python


def _environment() -> dict[str, str]:
    environment = read_pip_configuration().uv_environment()
    environment.pop("VIRTUAL_ENV", None)
    return environment


def find_uv(project: Path) -> str:
    """Return a uv: that of the PATH, else the locked one, installed with pip below .intermodal. Raises EnvironmentProblem."""
    found = shutil.which("uv")
    if found is not None:
        return found
    tools = project / ".intermodal/tools"
    uv = tools / "bin/uv"
    if not uv.is_file():
        _ensure_pip()
        pin = next(pin for pin in read_lock(project / "requirements/run.txt") if pin.name == "uv")
        print(f"installing uv {pin.version} from the package index", file=sys.stderr, flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
            lock.write(pin.text + "\n")
            lock.flush()
            # --target: a distribution's Python is "externally managed" and lets nobody install beside its own packages.
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            _run([*pip, "--upgrade", "--target", str(tools), "--requirement", lock.name], os.environ)
    return str(uv)


def _ensure_pip() -> None:
    if importlib.util.find_spec("pip") is not None:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise EnvironmentProblem(
            f"neither uv is here nor pip to get it ({sys.executable})", hint="apt install python3-pip, or install uv"
        )
    print("no pip: installing python3-pip with apt (root on Debian or Ubuntu)", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-q"], environment)
    _run(["apt-get", "install", "-q", "-y", "--no-install-recommends", "python3-pip", "ca-certificates"], environment)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "no message")[-2000:]
        raise EnvironmentProblem(f"`{' '.join(command[:4])} …` failed:\n{words}")


def main() -> None:
    """Make the environment of the project in the current folder."""
    try:
        make_environment(Path.cwd())
    except EnvironmentProblem as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error: {error.message}{hint}", file=sys.stderr)
        raise SystemExit(int(error.exit_code)) from None


if __name__ == "__main__":
    main()

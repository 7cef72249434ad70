"""Writes the hash-locked requirement files: `python -m intermodal.build.locks` (`make lock`).

Each `requirements.in` gets a `requirements.txt` beside it that lists every package with its hashes, and no URL and no path,
so that it installs behind any mirror. Steps are locked for the Python and the platform of their image.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from intermodal.build.pip import read_pip_configuration
from intermodal.build.venv import find_uv
from intermodal.errors import EnvironmentProblem

TORCH = Path("images/torch/requirements.txt")
_IMAGE_TARGET = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")


@dataclass(frozen=True)
class Lock:
    """One requirement file to make."""

    source: Path
    target: Path
    constraint: Path | None = None
    """A lock whose versions this one must share."""
    for_image: bool = True


def locks(project: Path) -> list[Lock]:
    """Return every lock of the project, in the order in which they must be made."""
    host = [
        Lock(project / f"requirements/{name}.in", project / f"requirements/{name}.txt", for_image=False)
        for name in ("run", "dev", "docs")
    ]
    found = [*host, Lock(project / "requirements/build.in", project / "requirements/build.txt")]
    found.append(Lock(project / TORCH.with_suffix(".in"), project / TORCH))
    for source in sorted(project.glob("components/*/requirements.in")):
        on_torch = any(line.startswith("torch") for line in source.read_text(encoding="utf-8").splitlines())
        found.append(Lock(source, source.with_suffix(".txt"), project / TORCH if on_torch else None))
    return found


def write(lock: Lock, uv: str, environment: dict[str, str], *, upgrade: bool) -> None:
    """Compile one lock. Raises EnvironmentProblem with uv's own words."""
    command = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--no-emit-index-url", "--no-emit-find-links"]
    command += _IMAGE_TARGET if lock.for_image else ("--python-version", "3.11")
    overrides = lock.source.with_name("overrides.txt")
    if overrides.is_file():
        command += ["--override", str(overrides)]
    if lock.constraint is not None:
        command += ["--constraint", str(lock.constraint)]
    if upgrade:
        command.append("--upgrade")
    command += [str(lock.source), "--output-file", str(lock.target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentProblem(f"{lock.source}: cannot be locked: {done.stderr.strip()}")


def main() -> None:
    """Write every lock of the project in the current folder; `--upgrade` takes the newest versions."""
    environment = read_pip_configuration().uv_environment()
    try:
        uv = find_uv(Path.cwd())
        for lock in locks(Path.cwd()):
            print(lock.target.relative_to(Path.cwd()), flush=True)
            write(lock, uv, environment, upgrade="--upgrade" in sys.argv)
    except EnvironmentProblem as error:
        raise SystemExit(f"error: {error.message}") from error


if __name__ == "__main__":
    main()

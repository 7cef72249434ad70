"""Writes the hash-locked requirement files: `python -m intermodal.build.locks [NAME ...]` (`make lock`).

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
from intermodal.errors import BadInput, EnvironmentProblem, IntermodalError

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

    @property
    def name(self) -> str:
        """The step or image that the lock is of, or the host's environment."""
        return self.source.stem if self.source.parent.name == "requirements" else self.source.parent.name


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
    """Write the named locks of the project in the current folder, all if none is named; `--upgrade` takes the newest versions."""
    given = sys.argv[1:]
    names = [word for word in given if word != "--upgrade"]
    environment = read_pip_configuration().uv_environment()
    try:
        known = locks(Path.cwd())
        if unknown := set(names) - {lock.name for lock in known}:
            raise BadInput(f"no lock {sorted(unknown)[0]!r}", hint=", ".join(lock.name for lock in known))
        uv = find_uv(Path.cwd())
        for lock in known:
            if not names or lock.name in names:
                print(lock.target.relative_to(Path.cwd()), flush=True)
                write(lock, uv, environment, upgrade="--upgrade" in given)
    except IntermodalError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error: {error.message}{hint}", file=sys.stderr)
        raise SystemExit(int(error.exit_code)) from error


if __name__ == "__main__":
    main()

"""What lightweight Python components import: the KFP runtime and `packages_to_install`, fetched once on the host, mounted read-only.

A step then needs no network and no pip. The host's own pip downloads, with its own configuration, built wheels alone: nothing of a
package is executed here. Versions that the image already has count as installed, as they would for pip inside it.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.engine.backend import Backend, Image
from intermodal.errors import EnvironmentProblem
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.spec.python_step import Prelude

_ASK = """
import json, platform, sys
from importlib.metadata import distributions
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "machine": platform.machine(), "libc": platform.libc_ver(),
 "installed": {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}}, sort_keys=True))
"""
_OLDEST_GLIBC = 17


@dataclass(frozen=True)
class Target:
    """The Python inside an image."""

    python: str
    """Major and minor version, e.g. `3.11`."""
    machine: str
    libc: tuple[str, str]
    installed: tuple[tuple[str, str], ...]
    """Name and version of the distributions that the image has."""

    @staticmethod
    def of(answer: dict[str, Any]) -> Target:
        name, version = answer["libc"]
        return Target(answer["python"], answer["machine"], (name, version), tuple(sorted(answer["installed"].items())))

    def pip_options(self) -> list[str]:
        """Return pip's options that choose wheels for this Python."""
        tag = "cp" + self.python.replace(".", "")
        options = ["--python-version", self.python, "--implementation", "cp"]
        for abi in (tag, "abi3", "none"):
            options += ["--abi", abi]
        for platform in self._platforms():
            options += ["--platform", platform]
        return options

    def _platforms(self) -> list[str]:
        if self.libc[0] != "glibc":
            return [f"musllinux_1_{minor}_{self.machine}" for minor in (2, 1)]
        newest = int(self.libc[1].split(".")[1])
        names = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
        return [*names, f"manylinux2014_{self.machine}", f"manylinux2010_{self.machine}", f"manylinux1_{self.machine}"]


class PythonFolders:
    """Provides the folders that go on a component's PYTHONPATH; kept below `<state>/python/`. Safe for threads and processes."""

    def __init__(self, state: Path, backend: Backend) -> None:
        self._root = state / "python"
        self._backend = backend
        self._targets: dict[str, Target] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def provide(self, prelude: Prelude, image: Image) -> tuple[Path, ...]:
        """Return the folders for a component in an image, the first one winning. Raises EnvironmentProblem naming what lacks."""
        folders = [self._runtime(prelude.kfp_version)]
        if prelude.packages:
            folders.insert(0, self._packages(prelude.packages, self._target(image)))
        return tuple(folders)

    def _runtime(self, version: str) -> Path:
        def install(folder: Path) -> None:
            _pip(
                ["install", "--no-deps", "--no-compile", "--target", str(folder), f"kfp=={version}"], "the KFP runtime"
            )

        return self._made(f"kfp-{version}", install)

    def _target(self, image: Image) -> Target:
        with self._lock(f"target {image.id}"):
            if image.id not in self._targets:
                try:
                    answer = json.loads(self._backend.query(image, ["python3", "-c", _ASK]))
                except ValueError as error:
                    raise EnvironmentProblem(
                        f"image {image.reference}: python3 in it does not say what it is"
                    ) from error
                self._targets[image.id] = Target.of(answer)
            return self._targets[image.id]

    def _packages(self, wanted: Sequence[str], target: Target) -> Path:
        key = sha256_text(
            canonical_json([list(wanted), [target.python, target.machine, list(target.libc)], target.installed])
        )

        def install(folder: Path) -> None:
            rest = _missing(wanted, target)
            options = [word for word in wanted if word.startswith("-") or word in _option_values(wanted)]
            if rest:
                command = ["install", "--no-deps", "--no-compile", "--only-binary=:all:", "--target", str(folder)]
                _pip([*command, *target.pip_options(), *options, *rest], ", ".join(wanted))

        return self._made(f"packages-{key[:32]}", install)

    def _made(self, name: str, install: Callable[[Path], None]) -> Path:
        """Return the folder `name`, made by `install` in a temporary one if it is not there."""
        target = self._root / name
        with self._lock(name):
            if target.is_dir():
                return target
            temporary = self._root / f".{name}-{uuid.uuid4().hex[:8]}"
            temporary.mkdir(parents=True)
            try:
                install(temporary)
                temporary.chmod(0o755)
                try:
                    temporary.rename(target)
                except OSError:
                    if not target.is_dir():  # else another process was first
                        raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return target

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())


def _option_values(words: Sequence[str]) -> set[str]:
    """Return the words that are the value of the option before them (`--index-url URL`)."""
    pairs = itertools.pairwise(words)
    return {value for option, value in pairs if option.startswith("--") and "=" not in option and "://" in value}


def _missing(wanted: Sequence[str], target: Target) -> list[str]:
    """Return, pinned, what the image lacks of the wanted packages and of what they need."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in target.installed), encoding="utf-8")
        command = ["install", "--dry-run", "--ignore-installed", "--only-binary=:all:", *target.pip_options()]
        command += ["--target", folder, "--report", str(report), *wanted]
        try:
            _pip([*command, "--constraint", str(constraints)], ", ".join(wanted))
        except EnvironmentProblem:
            if not target.installed:
                raise
            _pip(command, ", ".join(wanted))  # what the image has does not fit: pip inside it would replace it too
        document = json.loads(report.read_text(encoding="utf-8"))
    found = [(item["metadata"]["name"], item["metadata"]["version"]) for item in document["install"]]
    have = {(_plain(name), version) for name, version in target.installed}
    return [f"{name}=={version}" for name, version in found if (_plain(name), version) not in have]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(arguments: Sequence[str], what: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise EnvironmentProblem(
            f"{what} cannot be fetched for a Python component: {errors[-1] if errors else 'pip failed'}",
            hint="check the network and `pip config list`; only packages with built wheels are taken",
        )

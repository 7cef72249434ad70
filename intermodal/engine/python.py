"""What lightweight Python components need: the KFP runtime on their path, and `packages_to_install` in their image.

The runtime is fetched once on the host and mounted read-only, so a step needs no network and no pip. Packages are resolved and
downloaded on the host, once for an image's content and a list of requirements, and become a layer on the image: see
docs/decisions/0006-packages-are-an-image-layer.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from intermodal.engine.backend import Backend, Image, Packages, Wheel
from intermodal.engine.once import Once
from intermodal.engine.requirements import resolve
from intermodal.engine.target import QUERY, Target
from intermodal.engine.temporary import Temporary
from intermodal.errors import EnvironmentProblem
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.spec.python_step import Install, Prelude
from intermodal.turns import alone

_SCHEMA = 1
"""Part of the names of what is remembered: a change of how packages are resolved asks anew."""
_PIP = Install(("pip",))


class PackagesUnknown(Exception):
    """What packages a component needs in its image was not resolved yet."""


class PythonSteps:
    """Provides what preludes ask for; kept below `<state>/python/`. Safe for threads and processes."""

    def __init__(self, state: Path, backend: Backend) -> None:
        self._root = state / "python"
        self._temporary = Temporary(state / "tmp")
        self._backend = backend
        self._runtimes: Once[Path] = Once()
        self._targets: Once[Target] = Once()
        self._packages: Once[Packages | None] = Once()

    # The runtime

    def runtime(self, prelude: Prelude) -> Path | None:
        """Return the folder of the KFP runtime that a prelude installs, None if it installs none. Raises EnvironmentProblem."""
        version = prelude.kfp_version
        return self._runtimes.get(version, lambda: self._make_runtime(version)) if version else None

    def _make_runtime(self, version: str) -> Path:
        target = self._root / f"kfp-{version}"
        with self._alone(target.name):
            if not target.is_dir():
                with self._temporary.folder() as folder:
                    fetched = folder / "runtime"
                    fetched.mkdir()
                    _fetch_runtime(version, fetched)
                    fetched.chmod(0o755)
                    fetched.rename(target)
        return target

    # Packages

    def packages(self, prelude: Prelude | None, image: Image, say: Callable[[str], None]) -> Packages | None:
        """Return what is to be installed into the image, None if it has all. Slow the first time (see `missing`).

        `say` is told, in one line, what takes long. Raises EnvironmentProblem naming the requirement that cannot be had.
        """
        if prelude is None or not _wants_packages(prelude):
            return None
        return self._packages.get(_packages_name(prelude, image), lambda: self._resolved(prelude, image, say))

    def missing(self, prelude: Prelude | None, image: Image) -> str | None:
        """Return a name of what `packages` would have to work out first, None if it answers at once."""
        if prelude is None or not _wants_packages(prelude):
            return None
        name = _packages_name(prelude, image)
        return None if self._packages.knows(name) else name

    def remembered(self, prelude: Prelude | None, image: Image) -> Packages | None:
        """Return what `packages` would, from what earlier runs resolved; nothing is asked of anybody.

        Raises PackagesUnknown if they did not.
        """
        if prelude is None or not _wants_packages(prelude):
            return None
        if not self._target_note(image).is_file():
            raise PackagesUnknown
        target = self._target(image)
        if not _installs(prelude, target):
            return None
        wheels = self._noted(_packages_name(prelude, image))
        pip = self._noted(_pip_name(target))
        if wheels is None or pip is None:
            raise PackagesUnknown
        return Packages(tuple(wheels), pip[0]) if wheels else None

    def _resolved(self, prelude: Prelude, image: Image, say: Callable[[str], None]) -> Packages | None:
        try:
            target = self._target(image)
        except EnvironmentProblem:
            if prelude.installs:
                raise
            return (
                None  # only an old Python would lack something, and the step itself shows what is wrong with this one
            )
        if not (installs := _installs(prelude, target)):
            return None
        wheels = self._wheels(_packages_name(prelude, image), installs, target, say)
        # Whatever pip the image has, another one installs: its own may be too old, or patched to refuse.
        pip = self._wheels(_pip_name(target), [_PIP], replace(target, installed=()), say)
        return Packages(tuple(wheels), pip[0]) if wheels else None

    def _wheels(
        self, name: str, installs: Sequence[Install], target: Target, say: Callable[[str], None]
    ) -> list[Wheel]:
        """Resolve, or read what an earlier run resolved as long as all of it is still here."""
        with self._alone(name):
            wheels = self._noted(name)
            if wheels is None:
                wanted = ", ".join(word for install in installs for word in install.requirements)
                say(f"resolving and downloading {wanted} for {target}")
                wheels = resolve(installs, target, self._root / "wheels")
                listed = [[wheel.name, wheel.version, wheel.sha256, wheel.path.name] for wheel in wheels]
                _write(self._root / f"{name}.json", listed)
            return wheels

    def _noted(self, name: str) -> list[Wheel] | None:
        """Return the wheels that the note `name` lists, None if it or one of them is not there."""
        try:
            listed = json.loads((self._root / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        folder = self._root / "wheels"
        wheels = [Wheel(title, version, digest, folder / digest / file) for title, version, digest, file in listed]
        return wheels if all(wheel.path.is_file() for wheel in wheels) else None

    def _target(self, image: Image) -> Target:
        return self._targets.get(image.digest, lambda: self._ask(image))

    def _target_note(self, image: Image) -> Path:
        return self._root / f"target-{_digest(_SCHEMA, image.digest)}.json"

    def _ask(self, image: Image) -> Target:
        """Ask the image's python3 what it is; its answer holds for as long as the image's content is the same."""
        note = self._target_note(image)
        try:
            if note.is_file():
                return Target.of(json.loads(note.read_text(encoding="utf-8")))
            answer = json.loads(self._backend.query(image, ["python3", "-c", QUERY]))
            target = Target.of(answer)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise EnvironmentProblem(f"image {image.reference}: its python3 cannot be used: {reason}") from error
        _write(note, answer)
        return target

    def _alone(self, name: str) -> AbstractContextManager[int]:
        """Keep other processes that use the same state folder from making the same thing."""
        folder = self._root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return alone(folder / name, f"making {name}")


def _wants_packages(prelude: Prelude) -> bool:
    return bool(prelude.installs or prelude.for_old_python)


def _installs(prelude: Prelude, target: Target) -> list[Install]:
    old = [Install((prelude.for_old_python,))] if prelude.for_old_python and target.old else []
    return [*prelude.installs, *old]


def _packages_name(prelude: Prelude, image: Image) -> str:
    installs = [[install.requirements, install.options] for install in prelude.installs]
    return f"packages-{_digest(_SCHEMA, image.digest, prelude.for_old_python, installs)}"


def _pip_name(target: Target) -> str:
    return f"pip-{_digest(_SCHEMA, target.python, target.platforms)}"


def _digest(*values: Any) -> str:
    return sha256_text(canonical_json(values))[:32]


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Temporary(path.parents[1] / "tmp").folder() as folder:
        (folder / path.name).write_text(json.dumps(document), encoding="utf-8")
        (folder / path.name).replace(path)


def _fetch_runtime(version: str, folder: Path) -> None:
    """Unpack one version of the SDK, and nothing that it depends on: what runs in a step needs none of it."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--ignore-requires-python"]
    command += ["--target", str(folder), f"kfp=={version}", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise EnvironmentProblem(
            f"the KFP runtime {version} cannot be fetched: {errors[-1] if errors else 'pip failed'}",
            hint="check the network and `pip config list`",
        )

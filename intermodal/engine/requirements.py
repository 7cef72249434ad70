"""From requirements to wheels for the Python of an image: resolved and downloaded on the host, by pip and with its own configuration.

So mirrors, proxies, credentials and private CAs work, and none of it gets into an image. Only built wheels are taken: nothing of a package
is executed here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.engine import pip_for_image
from intermodal.engine.backend import Wheel
from intermodal.engine.target import Installed, Target, plain_name, write_installed
from intermodal.engine.temporary import Temporary
from intermodal.errors import EnvironmentProblem
from intermodal.spec.python_step import Install

_OLDEST_PIP = (23, 1)
_FLAGS = frozenset({"--no-deps", "--upgrade", "-U"})
"""Options that pip takes on its command line alone; all others go into the requirement file."""
_ERROR = re.compile(r"^ERROR: (?P<text>.*)", re.MULTILINE)
_NOT_FOUND = re.compile(r"No matching distribution found for (?P<requirement>.+)")
_NO_ANSWER = re.compile(r"Retrying \(.*?after connection broken by '(?P<reason>[A-Za-z]+)")
_SOURCE = re.compile(r"No sources permitted for (?P<name>[^:\s]+): (?P<url>\S+)")


@dataclass(frozen=True)
class _Found:
    name: str
    version: str
    url: str
    direct: bool
    sha256: str
    """As the index says, empty if it does not."""
    requires: tuple[str, ...]
    extras: tuple[str, ...]

    @property
    def requirement(self) -> str:
        return f"{self.name} @ {self.url}" if self.direct else f"{self.name}=={self.version}"


def resolve(installs: Sequence[Install], target: Target, folder: Path) -> list[Wheel]:
    """Return what `pip install` of each of `installs` in turn would add to the image, downloaded below `folder`.

    What the image has already counts as installed. Raises EnvironmentProblem naming the requirement that cannot be had.
    """
    if not target.cpython:
        kind = target.markers.get("platform_python_implementation", "an unknown Python")
        raise EnvironmentProblem(f"packages are installed for CPython on Linux, and the image has {kind}")
    installed = list(target.installed)
    temporary = Temporary(folder / "tmp")
    temporary.sweep()
    wheels: dict[str, Wheel] = {}
    for install in installs:
        with temporary.folder() as scratch:
            pip = _Pip(scratch, target, installed)
            found = pip.resolve(install)
            for wheel in pip.download(found, install, folder):
                wheels[plain_name(wheel.name)] = wheel
        added = [
            Installed(name=item.name, version=item.version, requires=list(item.requires), extras=list(item.extras))
            for item in found
        ]
        installed = [*added, *installed]
    return sorted(wheels.values(), key=lambda wheel: plain_name(wheel.name))


class _Pip:
    """pip, made to decide for a target, in a scratch folder of its own."""

    def __init__(self, scratch: Path, target: Target, installed: Iterable[Installed]) -> None:
        self._scratch = scratch
        self._target = target
        site = scratch / "installed"
        site.mkdir()
        write_installed(installed, site)
        (scratch / "markers.json").write_text(json.dumps(dict(target.markers)), encoding="utf-8")
        self._command = [sys.executable, "-P", pip_for_image.__file__, str(scratch / "markers.json"), str(site)]

    def resolve(self, install: Install) -> list[_Found]:
        """Return what would be installed."""
        report = self._scratch / "report.json"
        flags = [option for option in install.options if option in _FLAGS]
        self._run(["install", "--dry-run", "--report", str(report), *flags], install.requirements, install)
        document = json.loads(report.read_text(encoding="utf-8"))
        return [_read(item) for item in document["install"]]

    def download(self, found: Sequence[_Found], install: Install, folder: Path) -> list[Wheel]:
        """Fetch what was found; return the wheels, each in a folder that its hash names."""
        if not found:
            return []
        place = self._scratch / "wheels"
        place.mkdir()
        arguments = ["download", "--no-deps", "--dest", str(place)]
        self._run(arguments, [item.requirement for item in found], install)
        return [_keep(path, found, folder) for path in sorted(place.iterdir())]

    def _run(self, arguments: Sequence[str], requirements: Sequence[str], install: Install) -> None:
        # In a file, not on the command line: the address of an index may hold a password.
        listing, log = self._scratch / "requirements.txt", self._scratch / "log.txt"
        listing.write_text("\n".join([*_lines(install.options), *requirements]) + "\n", encoding="utf-8")
        log.unlink(missing_ok=True)
        command = [*self._command, *arguments, "--requirement", str(listing), "--only-binary=:all:"]
        command += [*self._target.pip_options(), "--quiet", "--disable-pip-version-check", "--log", str(log)]
        _check_pip()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            told = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
            raise _problem(done.stderr, told, requirements, self._target)


def _lines(options: Sequence[str]) -> list[str]:
    """Return options as lines of a requirement file: a value beside its option."""
    lines: list[str] = []
    for option in options:
        if option in _FLAGS:
            continue
        if option.startswith("-"):
            lines.append(option)
        else:
            lines[-1] += f" {option}"
    return lines


def _check_pip() -> None:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise EnvironmentProblem(
            f"there is no pip beside intermodal ({sys.executable}), and packages are resolved with it",
            hint="install pip into intermodal's environment",
        ) from error
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST_PIP:
        raise EnvironmentProblem(f"pip {version} is too old to resolve for an image", hint="pip install --upgrade pip")


def _read(item: dict[str, Any]) -> _Found:
    metadata, info = item["metadata"], item["download_info"]
    hashes = info.get("archive_info", {}).get("hashes", {})
    return _Found(
        name=metadata["name"],
        version=metadata["version"],
        url=info["url"],
        direct=bool(item.get("is_direct")),
        sha256=hashes.get("sha256", ""),
        requires=tuple(metadata.get("requires_dist") or ()),
        extras=tuple(metadata.get("provides_extra") or ()),
    )


def _keep(path: Path, found: Sequence[_Found], folder: Path) -> Wheel:
    """Move a downloaded wheel to its place."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    named = plain_name(path.name.partition("-")[0])
    item = next((item for item in found if plain_name(item.name) == named), None)
    if item is None or (item.sha256 and item.sha256 != digest):
        raise EnvironmentProblem(f"{path.name}: the package index gave another file than it had announced")
    target = folder / digest / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    return Wheel(item.name, item.version, digest, target)


def _problem(said: str, log: str, requirements: Sequence[str], target: Target) -> EnvironmentProblem:
    """Return pip's failure in one line that names the requirement."""
    errors = [match["text"].strip() for match in _ERROR.finditer(said)]
    missing = next((match["requirement"] for text in errors if (match := _NOT_FOUND.search(text))), None)
    if reason := _NO_ANSWER.search(log):
        what = missing or ", ".join(requirements)
        return EnvironmentProblem(
            f"{what}: the package index does not answer ({reason['reason']})",
            hint="check the network and `pip config list`",
        )
    if missing is None:
        last = errors[-1] if errors else (said.strip().splitlines() or ["pip gave no reason"])[-1]
        return EnvironmentProblem(f"{', '.join(requirements)}: {last}")
    name, _, pinned = missing.partition("==")
    name = plain_name(re.split(r"[^A-Za-z0-9._-]", name)[0])
    sources = [match["url"] for match in _SOURCE.finditer(log) if plain_name(match["name"]) == name]
    if any(f"-{pinned}." in url or not pinned for url in sources):
        return EnvironmentProblem(
            f"{missing}: there is a source distribution, but no built wheel for {target}",
            hint="build a wheel of it (`pip wheel`) and name its folder in pip's find-links on this machine",
        )
    return EnvironmentProblem(f"{missing}: the package index has no such version for {target}")

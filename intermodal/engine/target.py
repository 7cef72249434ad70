"""The Python inside an image: what it is and what it has, asked of the image itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

QUERY = """
import json, os, platform, sys, sysconfig
def full(v):
    text = "%d.%d.%d" % v[:3]
    return text if v.releaselevel == "final" else text + v.releaselevel[0] + str(v.serial)
try:
    from importlib.metadata import distributions
    found = [d for d in distributions() if d.metadata["Name"]]
except ImportError:
    found = []
print(json.dumps({
    "abi": (sysconfig.get_config_var("SOABI") or "").split("-")[1:2], "libc": platform.libc_ver(),
    "markers": {
        "implementation_name": sys.implementation.name, "implementation_version": full(sys.implementation.version),
        "os_name": os.name, "platform_machine": platform.machine(), "platform_release": platform.release(),
        "platform_system": platform.system(), "platform_version": platform.version(), "python_full_version": platform.python_version(),
        "platform_python_implementation": platform.python_implementation(),
        "python_version": ".".join(platform.python_version_tuple()[:2]), "sys_platform": sys.platform,
    },
    "installed": [{"name": d.metadata["Name"], "version": d.version, "requires": d.requires or [],
                   "extras": d.metadata.get_all("Provides-Extra") or []} for d in found],
}))
"""
"""Run by the image's `python3`; prints an `Answer`."""

_OLDEST_GLIBC, _NEWEST_MUSL = 17, 2
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


class Installed(BaseModel):
    """One distribution that the image has."""

    name: str
    version: str
    requires: list[str]
    extras: list[str]


class Answer(BaseModel):
    """What the query prints. An image may say anything, so nothing in it is trusted."""

    abi: list[str]
    libc: tuple[str, str]
    markers: dict[str, str]
    installed: list[Installed]


@dataclass(frozen=True)
class Target:
    """A Python that packages are resolved for."""

    markers: Mapping[str, str]
    """The marker environment of PEP 508."""
    abi: str
    """As in a wheel's name, e.g. `cp311`."""
    platforms: tuple[str, ...]
    installed: tuple[Installed, ...]

    @staticmethod
    def of(answer: Any) -> Target:
        """Read what the query printed. Raises ValueError if it is no answer."""
        read = Answer.model_validate(answer)
        if not re.fullmatch(r"3\.\d+", read.markers.get("python_version", "")):
            raise ValueError("it does not say its version")
        flags = read.abi[0] if read.abi else read.markers["python_version"].replace(".", "")
        platforms = _platforms(read.libc, read.markers.get("platform_machine", ""))
        return Target(read.markers, f"cp{flags}", platforms, tuple(read.installed))

    @property
    def python(self) -> str:
        return self.markers["python_version"]

    @property
    def cpython(self) -> bool:
        return self.markers.get("implementation_name") == "cpython" and self.markers.get("sys_platform") == "linux"

    @property
    def old(self) -> bool:
        """Whether it is older than 3.9, below which the KFP runtime needs typing-extensions."""
        return int(self.python.partition(".")[2]) < 9

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platforms[0]}"

    def pip_options(self) -> list[str]:
        """Return pip's options that choose wheels for this Python."""
        version = re.match(r"3\.\d+(\.\d+)?", self.markers["python_full_version"])
        options = ["--python-version", version[0] if version else self.python, "--implementation", "cp"]
        for abi in (self.abi, "abi3", "none"):
            options += ["--abi", abi]
        for platform in self.platforms:
            options += ["--platform", platform]
        return options


def write_installed(installed: Iterable[Installed], folder: Path) -> None:
    """Write, for pip to read, what is installed: of each distribution its name, version and needs."""
    found: dict[str, Installed] = {}
    for item in installed:
        if _NAME.fullmatch(item.name) and _VERSION.fullmatch(item.version):
            found.setdefault(plain_name(item.name), item)  # of two with one name, the first is what an import finds
    for item in found.values():
        place = folder / f"{item.name.replace('-', '_')}-{item.version}.dist-info"
        place.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {item.name}", f"Version: {item.version}"]
        lines += [f"Requires-Dist: {' '.join(need.split())}" for need in item.requires]
        lines += [f"Provides-Extra: {' '.join(extra.split())}" for extra in item.extras]
        (place / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plain_name(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _platforms(libc: tuple[str, str], machine: str) -> tuple[str, ...]:
    """Return the platform tags that a system runs, best first (PEP 600, 656)."""
    newest = re.match(r"2\.(\d+)", libc[1])
    if libc[0] != "glibc" or newest is None:
        return (*(f"musllinux_1_{minor}_{machine}" for minor in range(_NEWEST_MUSL, 0, -1)), f"linux_{machine}")
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(int(newest[1]), _OLDEST_GLIBC - 1, -1)]
    names += [f"manylinux2014_{machine}", f"manylinux_2_12_{machine}", f"manylinux2010_{machine}"]
    return (*names, f"manylinux_2_5_{machine}", f"manylinux1_{machine}", f"linux_{machine}")

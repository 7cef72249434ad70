"""Lightweight Python components: what the SDK puts in front of the user's function, read back.

The SDK compiles such a component to `sh -c "<install kfp and packages with pip> && \"$0\" \"$@\"" <the real command>`. That needs a network
in every step. Here the installation is read as what it asks for, so that the engine can provide it otherwise.
Source: `component_factory.py` of the SDK (`_get_packages_to_install_command`), versions 2.0 to 2.17.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_INSTALL = re.compile(r"python3 -m pip install(?P<arguments>.*?)&&", re.DOTALL)
_KFP = re.compile(r"kfp==(?P<version>[0-9][0-9A-Za-z.]*)")
_NOTHING = ("--quiet", "--no-warn-script-location", "--no-deps")


@dataclass(frozen=True)
class Prelude:
    """What a lightweight component wants installed, and its command without the installing."""

    kfp_version: str
    packages: tuple[str, ...]
    """Requirements and pip options other than the SDK's own, in order."""
    command: tuple[str, ...]


def read_prelude(command: Sequence[str]) -> Prelude | None:
    """Return the prelude of `command`, None if it has none of the SDK's form (it then runs as it stands)."""
    if len(command) < 4 or command[0] != "sh" or command[1] != "-c" or not command[2].rstrip().endswith('"$0" "$@"'):
        return None
    version = ""
    packages: list[str] = []
    for match in _INSTALL.finditer(command[2]):
        try:
            words = shlex.split(match["arguments"].replace("\\\n", " "))
        except ValueError:
            return None
        for word in words:
            if kfp := _KFP.fullmatch(word):
                version = kfp["version"]
            elif word not in _NOTHING and not word.startswith("typing-extensions"):
                packages.append(word)
    return Prelude(version, tuple(packages), tuple(command[3:])) if version else None

"""Lightweight Python components: what the SDK puts in front of the user's function, read back.

The SDK compiles such a component to `sh -c "<install kfp and packages with pip> && \"$0\" \"$@\"" <the real command>`. That needs a network
in every step. Here the installation is read as what it asks for, so that the engine can provide it otherwise.
Source: `component_factory.py` of the SDK (`_get_packages_to_install_command`), versions 2.0 to 2.17, and v1's component bridge.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intermodal.errors import Unsupported

_RUN = '&& "$0" "$@"'
_CHECK = re.compile(r'if ! \[ -x "\$\(command -v pip\)" \]; then\s.*?\sfi\s', re.DOTALL)
_VENV = re.compile(
    r'export PIP_DISABLE_PIP_VERSION_CHECK=1\s+tmp=\$\(mktemp -d\)\s+python3 -m venv "\$tmp/venv" --system-site-packages\s+'
    r'\. "\$tmp/venv/bin/activate"\s'
)
_EITHER = re.compile(r"\((?P<one>[^|()]*)\|\|(?P<other>[^|()]*) --user\)")
"""How v1 wrote it: `(pip install X || pip install X --user)`."""
_PIP = ["python3", "-m", "pip", "install"]
_QUIET_VARIABLE = "PIP_DISABLE_PIP_VERSION_CHECK=1"
_KFP = re.compile(r"kfp==(?P<version>[0-9][0-9A-Za-z.]*)")
_FOR_OLD_PYTHON = re.compile(r"(?P<requirement>typing-extensions[^;]*);\s*python_version\s*<\s*[\"']3\.9[\"']")
_SILENT = frozenset(
    {"--quiet", "-q", "--no-warn-script-location", "--no-cache-dir", "--disable-pip-version-check", "--user"}
)
"""Options that change nothing about what is installed."""
_FLAGS = frozenset({"--pre", "--no-deps", "--upgrade", "-U", "--prefer-binary", "--no-index"})
_VALUED = frozenset({"--index-url", "-i", "--extra-index-url", "--trusted-host", "--find-links", "-f", "--only-binary"})
_FROM_SOURCE = re.compile(r"(?:^|@\s*)(?:git|hg|svn|bzr)\+|://\S+\.(?:tar\.\w+|tgz|zip)(?:#|$)")
_LOCAL = re.compile(r"[./~]|(?:.*@\s*)?file:|(?!.*://).*\.(?:whl|tar\.gz|zip)$")


@dataclass(frozen=True)
class Install:
    """One `pip install`: its requirements, and the options that decide what they become."""

    requirements: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prelude:
    """What a lightweight component wants installed, and its command without the installing."""

    kfp_version: str
    """The KFP runtime, which is installed without what it depends on; empty if the SDK injected none."""
    for_old_python: str
    """A requirement that the runtime has below Python 3.9, empty if none."""
    installs: tuple[Install, ...]
    command: tuple[str, ...]


def read_prelude(command: Sequence[str]) -> Prelude | None:
    """Return the prelude of `command`, None if it has none of the SDK's form (it then runs as it stands).

    Raises Unsupported naming a requirement or option of pip that cannot be met without a network in the step.
    """
    if len(command) < 4 or tuple(command[:2]) != ("sh", "-c") or not command[2].rstrip().endswith(_RUN):
        return None
    script = _EITHER.sub(r"\g<one>", command[2].rstrip().removesuffix(_RUN))
    parts = _commands(_VENV.sub("", _CHECK.sub("", script, count=1), count=1))
    version = old = ""
    installs: list[Install] = []
    for part in parts:
        if part[: len(_PIP)] != _PIP:
            return None
        words = part[len(_PIP) :]
        found = _runtime(words)
        if found is not None:
            version, old = found
        else:
            installs.append(_install(words))
    return Prelude(version, old, tuple(installs), tuple(command[3:])) if parts else None


def _commands(script: str) -> list[list[str]]:
    """Return the words of each command of a script that is nothing but `A && B && ...`, else nothing."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    commands: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word == "&&":
                commands.append([])
            elif set(word) <= set("();<>|&") or "$" in word or "`" in word:
                return []
            elif word != _QUIET_VARIABLE:
                commands[-1].append(word)
    except ValueError:
        return []
    return commands


def _runtime(words: Sequence[str]) -> tuple[str, str] | None:
    """Return the version of the KFP runtime, and what it needs below Python 3.9, if that is all that is installed."""
    version = old = ""
    for word in _requirements(words):
        if kfp := _KFP.fullmatch(word):
            version = kfp["version"]
        elif needs := _FOR_OLD_PYTHON.fullmatch(word):
            old = needs["requirement"]
        else:
            return None
    return (version, old) if version and "--no-deps" in words else None


def _with_before(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each word after the one before it."""
    before = ""
    for word in words:
        yield before, word
        before = word


def _requirements(words: Sequence[str]) -> list[str]:
    return [word for before, word in _with_before(words) if not word.startswith("-") and before not in _VALUED]


def _install(words: Sequence[str]) -> Install:
    options: list[str] = []
    for before, word in _with_before(words):
        name = word.partition("=")[0]
        if before in _VALUED:
            options.append(word)
        elif word.startswith("-") and word not in _SILENT:
            if name not in _VALUED and word not in _FLAGS:
                raise Unsupported(
                    f"pip's option {word!r} is not supported in packages_to_install",
                    hint="list the requirements themselves; indexes go into pip_index_urls or pip's own configuration",
                )
            options.append(word)
    requirements = _requirements(words)
    for requirement in requirements:
        if _FROM_SOURCE.search(requirement) or _LOCAL.match(requirement):
            raise Unsupported(
                f"requirement {requirement!r} is not supported: only packages with built wheels are installed for a step",
                hint="build a wheel of it (`pip wheel`) and name its folder in pip's find-links on this machine",
            )
    return Install(tuple(requirements), tuple(options))

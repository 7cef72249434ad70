"""From an image's name to the folder of code and the locks behind it, through the labels of its Dockerfile."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from intermodal.errors import BadInput, EnvironmentProblem

LABEL_COMPONENT = "io.intermodal.component"
LABEL_LOCK = "io.intermodal.lock"
_PYTHON = re.compile(r"python(-?\d+)?")
_CONTINUED = re.compile(r"\\\s*\n")


@dataclass(frozen=True)
class Component:
    """What one step's image is made of: its code and the locks of its environment, in the order they are installed."""

    folder: Path
    locks: tuple[Path, ...]
    code: tuple[Path, ...]
    """Everything of `components/` that the Dockerfile copies into the image."""


def is_plain_python(project: Path, reference: str) -> bool:
    """Whether an image is a Python and nothing else: `python:3.11`, `ubi9/python-311`, the base of the project's own images."""
    name = _step(reference)
    if reference.startswith("intermodal/"):
        return name == "base"
    return bool(_PYTHON.fullmatch(name)) and not (project / "images" / name / "Dockerfile").is_file()


def plain_digest() -> str:
    """Return the content identity of a bare environment: that of the Python that runs this."""
    return f"sha256:{hashlib.sha256(f'process 1 {sys.implementation.cache_tag} {sys.version}'.encode()).hexdigest()}"


def _step(reference: str) -> str:
    return reference.partition("@")[0].rpartition("/")[2].partition(":")[0]


def find_component(project: Path, reference: str) -> Component:
    """Return the component of image `reference` (`intermodal/<step>:<tag>`) by `images/<step>/Dockerfile`.

    Raises EnvironmentProblem naming the image if there is no such file, BadInput if its labels are wrong.
    """
    step = _step(reference)
    dockerfile = project / "images" / step / "Dockerfile"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", step) or not dockerfile.is_file():
        hint = "steps of images that this project does not build need containers: --backend docker"
        raise EnvironmentProblem(f"image {reference}: there is no {dockerfile} to find its code by", hint=hint)
    text = dockerfile.read_text(encoding="utf-8")
    labels = read_labels(text)
    for label in (LABEL_COMPONENT, LABEL_LOCK):
        if not labels.get(label):
            raise BadInput(f"{dockerfile}: has no label {label}")
    folder = project / labels[LABEL_COMPONENT]
    locks = tuple(project / name for name in labels[LABEL_LOCK].split())
    code = tuple(project / name for name in read_sources(text))
    for path in (folder, *locks, *code):
        if not path.exists():
            raise BadInput(f"{dockerfile}: names {path.relative_to(project)}, which does not exist")
    return Component(folder, locks, code)


def read_labels(dockerfile: str) -> dict[str, str]:
    """Return all labels that the LABEL instructions set; a later one wins."""
    labels: dict[str, str] = {}
    for line in _CONTINUED.sub(" ", dockerfile).splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword.upper() == "LABEL":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                labels[name] = value
    return labels


def read_sources(dockerfile: str) -> list[str]:
    """Return the sources below `components/` that COPY instructions take from the project."""
    sources: list[str] = []
    for line in _CONTINUED.sub(" ", dockerfile).splitlines():
        words = line.split()
        if len(words) > 2 and words[0].upper() == "COPY" and not any(word.startswith("--from") for word in words):
            sources += [word.rstrip("/") for word in words[1:-1] if word.startswith("components/")]
    return sources


def code_digest(project: Path, component: Component) -> str:
    """Return `sha256:...` over all code that the step's image would hold, and the locks."""
    total = hashlib.sha256(b"process 1\n")
    for root in sorted({component.folder, *component.code, *component.locks}):
        files = sorted(root.rglob("*")) if root.is_dir() else [root]
        for path in files:
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                total.update(f"{content} {path.relative_to(project).as_posix()}\n".encode())
    return f"sha256:{total.hexdigest()}"

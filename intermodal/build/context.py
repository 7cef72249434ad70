"""The build context of an image: exactly what its Dockerfile copies, laid out the same way on every machine."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from intermodal.build.wheels import Pin, fetch, read_lock
from intermodal.errors import BadInput
from intermodal.spec.document import canonical_json

BASE = "base"
TORCH = "torch"
_NOT_RUNTIME = ("component.py", "requirements.in", "requirements.txt", "overrides.txt", "README.md")
_COPY = re.compile(r"^COPY\s+(?P<sources>components/.*)\s+\S+$", re.MULTILINE)
_FROM_TORCH = re.compile(r"^FROM \$\{TORCH_IMAGE\}", re.MULTILINE)


@dataclass(frozen=True)
class Context:
    """An assembled context. `digest` covers every path, mode and content in it."""

    folder: Path
    digest: str


@dataclass(frozen=True)
class Recipe:
    """One image of the project: its Dockerfile and the lock it installs."""

    name: str
    dockerfile: Path
    lock: Path

    @property
    def on_torch(self) -> bool:
        return bool(_FROM_TORCH.search(self.dockerfile.read_text(encoding="utf-8")))


def recipes(project: Path) -> list[Recipe]:
    """Return the images of the project (`images/*/Dockerfile`), what others build on first."""
    found = []
    for dockerfile in sorted(project.glob("images/*/Dockerfile")):
        name = dockerfile.parent.name
        lock = dockerfile.parent if name == TORCH else project / "components" / name
        found.append(Recipe(name, dockerfile, lock / "requirements.txt"))
    return sorted(found, key=lambda recipe: (recipe.name != TORCH, recipe.name))


def assemble(recipe: Recipe, project: Path, folder: Path, wheel_cache: Path) -> Context:
    """Lay out the context of `recipe` in `folder`, replacing what was there. Raises BadInput, EnvironmentProblem."""
    shutil.rmtree(folder, ignore_errors=True)
    build = folder / "build"
    wheels = build / "wheels"
    wheels.mkdir(parents=True)
    pins = _pins(recipe, project)
    pip = read_lock(project / "requirements/build.txt")
    for wheel in fetch([*pins, *pip], wheel_cache):
        _link(wheel, wheels / wheel.name)
    (build / "requirements.txt").write_text("".join(pin.text + "\n" for pin in pins), encoding="utf-8")
    _place(project / "images/install", build / "install", 0o755)
    _place(recipe.dockerfile, folder / "Dockerfile", 0o644)
    for source in _copied(recipe.dockerfile):
        _copy_code(project, source, folder)
    return Context(folder, _digest(folder))


def _pins(recipe: Recipe, project: Path) -> list[Pin]:
    """Return what the image installs: its lock, less what the torch base has. Raises BadInput where the two disagree."""
    pins = read_lock(recipe.lock)
    if not recipe.on_torch:
        return pins
    base = {pin.name: pin for pin in read_lock(project / "images/torch/requirements.txt")}
    for pin in pins:
        if pin.name in base and base[pin.name].version != pin.version:
            raise BadInput(
                f"{recipe.lock}: {pin.name}=={pin.version} but the torch base has {base[pin.name].version}",
                hint="make lock",
            )
    return [pin for pin in pins if pin.name not in base]


def _copied(dockerfile: Path) -> list[str]:
    found = _COPY.findall(dockerfile.read_text(encoding="utf-8"))
    return [source for line in found for source in line.split()]


def _copy_code(project: Path, source: str, folder: Path) -> None:
    origin = project / source
    if not origin.exists():
        raise BadInput(f"{source}: is copied by a Dockerfile but does not exist")
    files = [origin] if origin.is_file() else sorted(origin.rglob("*"))
    for file in files:
        if file.is_file() and file.name not in _NOT_RUNTIME and "__pycache__" not in file.parts:
            _place(file, folder / file.relative_to(project), 0o644)


def _place(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _digest(folder: Path) -> str:
    entries = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            note = None
            if file.suffix == ".whl":
                note = file.name  # its content is fixed by the hash in requirements.txt
            else:
                note = hashlib.sha256(file.read_bytes()).hexdigest()
            entries.append([file.relative_to(folder).as_posix(), note])
    return hashlib.sha256(canonical_json(entries).encode()).hexdigest()


def write_tar(folder: Path, target: Path) -> None:
    """Write the context as a tar archive that is the same for the same content: sorted, no times, no owners."""
    with tarfile.open(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            info = archive.gettarinfo(str(file), file.relative_to(folder).as_posix())
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            executable = file.is_dir() or file.name == "install"
            info.mode = 0o755 if executable else 0o644
            if info.islnk():
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", file.stat().st_size
            if file.is_file():
                with file.open("rb") as stream:
                    archive.addfile(info, stream)
            else:
                archive.addfile(info, io.BytesIO())

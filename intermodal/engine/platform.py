"""What a platform spec asks for, given on one machine: secrets and config maps from local folders, scratch folders, field paths.

A secret is a folder `<secrets>/<name>/` with a file for each key, as Kubernetes mounts it. For an attempt its keys are copied
where only the step's uid can read them, and removed when the attempt ends. Values never enter the record, the log or the
fingerprint; the time at which a secret's key was last written does, so that a rotated secret is another task. A config map is no
secret: the hash of its content counts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.engine.backend import STEP_UID, Mount
from intermodal.engine.fields import field_value
from intermodal.engine.naming import safe_name
from intermodal.engine.resolve import MISSING, Scope
from intermodal.engine.temporary import discard
from intermodal.errors import BadInput
from intermodal.spec.types import ConfigRef, KubernetesSettings

EXTRAS = "extras"
"""The folder of an attempt in which its extras are while it runs."""


@dataclass(frozen=True)
class ConfigFolders:
    """Where secrets and config maps are found: a folder each, with a folder for each name and a file for each key."""

    secrets: Path
    config_maps: Path

    def find(self, reference: ConfigRef, scope: Scope, place: str) -> Path | None:
        """Return the folder of a secret or config map, None if it is optional and absent. Raises BadInput naming it."""
        name = scope.parameter(reference.name)
        if name is MISSING or name in (None, ""):
            if reference.optional:
                return None
            raise BadInput(f"{place}: a {reference.kind} has no name")
        root = self.secrets if reference.kind == "secret" else self.config_maps
        folder = root / safe_name(str(name))
        if folder.is_dir():
            return folder
        if reference.optional:
            return None
        raise BadInput(
            f"{place}: {reference.kind} {name!r} is not in {root}",
            hint=f"make the folder {folder} with a file for each key",
        )


@dataclass(frozen=True)
class Extras:
    """What an attempt gets beside its inputs. `fields` and `secrets` are what of it counts in the fingerprint."""

    folders: tuple[tuple[Path, PurePosixPath], ...] = ()
    """Folders of secrets and config maps, and where the step sees them."""
    secret_env: tuple[tuple[str, Path], ...] = ()
    """Variable and the file that holds its value, read at the start of each attempt."""
    env: Mapping[str, str] = field(default_factory=dict)
    scratch: tuple[PurePosixPath, ...] = ()
    fields: tuple[tuple[str, str, str], ...] = ()
    """(variable, field path, value): the value of a label or annotation, empty for a field that names the run."""
    secrets: tuple[tuple[Any, ...], ...] = ()
    """(kind, mount path or variable, name, key, version)."""

    def as_json(self) -> dict[str, Any]:
        """Return what is needed to provide them again: where values lie, never a value of a secret."""
        return {
            "folders": [[str(source), str(target)] for source, target in self.folders],
            "secret_env": [[variable, str(path)] for variable, path in self.secret_env],
            "scratch": [str(path) for path in self.scratch],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Extras:
        """Return extras that give the same; what only counts in the fingerprint, and plain variables, are not in them."""
        return Extras(
            folders=tuple((Path(source), PurePosixPath(target)) for source, target in document["folders"]),
            secret_env=tuple((variable, Path(path)) for variable, path in document["secret_env"]),
            scratch=tuple(map(PurePosixPath, document["scratch"])),
        )


def resolve_extras(
    settings: KubernetesSettings, folders: ConfigFolders, scope: Scope, names: Mapping[str, str], place: str
) -> Extras:
    """Find what the settings name. `names` gives the pod fields `metadata.name` and so on. Raises BadInput."""
    mounted: list[tuple[Path, PurePosixPath]] = []
    variables: list[tuple[str, Path]] = []
    secrets: list[tuple[Any, ...]] = []
    for volume in settings.config_volumes:
        folder = folders.find(volume.config, scope, place)
        if folder is not None:
            kind = volume.config.kind
            mounted.append((folder, PurePosixPath(volume.path)))
            secrets.extend((kind, volume.path, folder.name, key.name, _version(kind, key)) for key in _keys(folder))
    for item in settings.config_env:
        folder = folders.find(item.config, scope, place)
        path = folder / item.key if folder is not None else None
        if path is not None and path.is_file():
            variables.append((item.variable, path))
            kind = item.config.kind
            secrets.append((kind, item.variable, path.parent.name, item.key, _version(kind, path)))
        elif not item.config.optional:
            raise BadInput(f"{place}: {item.config.kind} {folder.name if folder else ''!r} has no key {item.key!r}")
    env = {variable: field_value(path, settings, names, place) for variable, path in settings.fields}
    scratch = tuple(map(PurePosixPath, settings.empty_dirs))
    fields = tuple((variable, path, "" if path in names else env[variable]) for variable, path in settings.fields)
    return Extras(tuple(mounted), tuple(variables), env, scratch, fields, tuple(secrets))


def _keys(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def _version(kind: str, key: Path) -> Any:
    if kind == "secret":
        return key.stat().st_mtime_ns
    return hashlib.sha256(key.read_bytes()).hexdigest()


class Provided:
    """The extras of one attempt on disk: made before it starts, gone when it has ended (use with `with`)."""

    def __init__(
        self, extras: Extras, attempt: Path, *, own_uid: bool, any_uid: bool = False, adopted: bool = False
    ) -> None:
        """`own_uid`: whether the step runs as this process's uid (else, where this is root, as STEP_UID).

        `any_uid`: it runs as nobody knows whom, so all may read the files and only the way to them is closed.
        `adopted`: the attempt has them already, from the runner that started it.
        """
        self._adopted = adopted
        self._extras = extras
        self._folder = attempt / EXTRAS
        self._any_uid = any_uid
        self._uid = None if own_uid or any_uid or os.geteuid() != 0 else STEP_UID
        self.mounts: tuple[Mount, ...] = ()
        self.env: dict[str, str] = dict(extras.env)

    def __enter__(self) -> Provided:
        if self._adopted:
            return self
        if self._extras.folders or self._extras.scratch:
            self._folder.mkdir(parents=True, mode=0o700)
        mounts = []
        for number, (source, target) in enumerate(self._extras.folders):
            mounts.append(Mount(self._copy(source, self._folder / f"config-{number}"), target))
        for number, target in enumerate(self._extras.scratch):
            scratch = self._folder / f"scratch-{number}"
            scratch.mkdir()
            scratch.chmod(0o1777)
            mounts.append(Mount(scratch, target, read_only=False))
        self.mounts = tuple(mounts)
        for variable, path in self._extras.secret_env:
            self.env[variable] = path.read_text(encoding="utf-8")
        return self

    def _copy(self, source: Path, target: Path) -> Path:
        target.mkdir(mode=0o700)
        for path in sorted(source.iterdir()):
            if path.is_file():
                descriptor = os.open(target / path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(path.read_bytes())
                if self._any_uid:
                    (target / path.name).chmod(0o444)
                if self._uid is not None:
                    os.chown(target / path.name, self._uid, self._uid)
        if self._uid is not None:
            os.chown(target, self._uid, self._uid)
        if self._any_uid:
            target.chmod(0o755)
        return target

    def __exit__(self, *_: object) -> None:
        discard(self._folder)

"""Bringing folders back from the newest snapshot that is whole. Each appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from intermodal.backup.copying import Say, pour
from intermodal.backup.places import Place, explained
from intermodal.backup.snapshot import Damaged, File, Snapshot, object_name, read_snapshot, snapshot_names
from intermodal.engine.replace import mend, new_folder, replace
from intermodal.engine.temporary import discard
from intermodal.errors import BadInput


def restore(
    place: Place, targets: Callable[[str], Path], wanted: list[str], say: Say, *, force: bool
) -> dict[str, Path]:
    """Bring folders (all if none is named) back from the newest whole snapshot; return where they are now.

    Each appears whole or not at all; what a restore that was killed left is put right first. Snapshots that are not whole are said and
    passed over. Raises BadInput if no snapshot has them, or if a folder is there already and holds something, unless `force`;
    EnvironmentProblem.
    """
    for name in reversed(snapshot_names(place)):
        try:
            snapshot = read_snapshot(place, name)
            missing = sorted(set(wanted) - snapshot.folders.keys())
            if missing:
                raise Damaged(f"it has no {missing[0]}; it has {', '.join(snapshot.folders) or 'nothing'}")
            strange = [name for name in snapshot.folders if name in ("", "..") or Path(name).name != name]
            if strange:
                raise Damaged(f"{strange[0]!r} is no name of a folder")
            return _restore(place, snapshot, {name: targets(name) for name in wanted or snapshot.folders}, force)
        except Damaged as error:
            say(f"passing over {name}: {error}")
    raise BadInput(f"{place.address}: holds no whole snapshot" + (f" of {', '.join(wanted)}" if wanted else ""))


def _restore(place: Place, snapshot: Snapshot, targets: dict[str, Path], force: bool) -> dict[str, Path]:
    for target in targets.values():
        with explained(target, "put right"):
            mend(target.parent)
        if target.exists() and (not target.is_dir() or any(target.iterdir())) and not force:
            raise BadInput(f"{target}: is there already and holds something", hint="--force replaces it")
    made: dict[str, Path] = {}
    try:
        for name, target in targets.items():
            with explained(target, "written"):
                made[name] = new_folder(target)
                for file in snapshot.folders[name]:
                    _fetch(place, file, made[name])
        for name, target in targets.items():
            with explained(target, "replaced"):
                made[name].chmod(0o1777)  # a volume: steps of any uid write in it
                replace(made[name], target)
    finally:
        for folder in made.values():
            discard(folder)
    return targets


def _fetch(place: Place, file: File, folder: Path) -> None:
    path = folder / file.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Damaged(f"{file.path} leads out of its folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as copy:
            digest = pour(place.blocks(object_name(file.sha256)), copy)
    except FileNotFoundError as error:
        raise Damaged(f"{file.path} is missing") from error
    if digest != file.sha256:
        raise Damaged(f"{file.path} is not what was put there")

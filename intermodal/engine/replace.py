"""A folder put in another's place, so that a kill at any instant loses neither: what it leaves is found by its name, and put back."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from intermodal.engine.temporary import discard, owned_name, owner_lives

_LEFT = re.compile(r"\.(?P<name>.+)\.intermodal-(?P<kind>new|old)-(?P<owner>[^.]+)")


def new_folder(target: Path) -> Path:
    """Make and return an empty folder beside `target`, to be put in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _beside(target, "new")
    folder.mkdir(mode=0o700)
    return folder


def replace(new: Path, target: Path) -> None:
    """Put a folder of `new_folder` in the place of `target`. What was there, if anything, is then where `new` was."""
    old = _beside(target, "old")
    with contextlib.suppress(FileNotFoundError):
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            old.rename(target)
        raise
    with contextlib.suppress(FileNotFoundError):
        old.rename(new)


def mend(parent: Path) -> None:
    """Put back the folders in `parent` that killed processes had taken away, and remove what these left half made."""
    if not parent.is_dir():
        return
    for path in list(parent.iterdir()):
        found = _LEFT.fullmatch(path.name)
        if found is None or owner_lives(found["owner"]):
            continue
        target = parent / found["name"]
        if found["kind"] == "old" and not _holds_something(target):
            with contextlib.suppress(FileNotFoundError):  # somebody else mends, too
                path.rename(target)
        else:
            discard(path)


def _holds_something(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.intermodal-{kind}-{owned_name()}")

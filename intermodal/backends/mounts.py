"""Mounts where no container shows them: links in the attempt folder, and names for what lies outside of it."""

from __future__ import annotations

from pathlib import Path

from intermodal.engine.backend import Launch


def show_mounts(launch: Launch) -> dict[str, str]:
    """Link mounts into the attempt folder; return those that lie outside it, by target: the value of INTERMODAL_MOUNTS."""
    root = launch.attempt_dir.absolute()
    outside: dict[str, str] = {}
    for mount in launch.mounts:
        target = Path(mount.target)
        if not target.is_relative_to(root):
            outside[str(mount.target)] = str(mount.source.absolute())
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(mount.source.absolute())
    return outside

"""`intermodal gc`: remove what nothing needs any more. Without --yes it only says what it would remove."""

from __future__ import annotations

import argparse
import json
import shutil
from typing import TYPE_CHECKING

from intermodal.cli.records import open_database
from intermodal.engine.collect import Garbage, Policy, collect, find_garbage
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.naming import safe_name
from intermodal.engine.resume import StateUse
from intermodal.engine.store import Store
from intermodal.errors import BadInput

if TYPE_CHECKING:
    from intermodal.backends.docker.layers import Layered

HELP = "remove what nothing needs any more (says only what, unless --yes)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", type=int, default=10, metavar="N", help="keep the newest N finished runs (default: 10)"
    )
    parser.add_argument("--days", type=float, metavar="D", help="keep runs that ended less than D days ago, too")
    parser.add_argument("--volume", action="append", default=[], metavar="NAME", help="remove this state volume, too")
    parser.add_argument(
        "--images", action="store_true", help="remove images with installed packages that no kept run used, too"
    )
    parser.add_argument("--yes", action="store_true", help="remove it")
    parser.add_argument("--json", action="store_true", help="print what goes as JSON")


def run(args: argparse.Namespace) -> int:
    if args.keep < 0 or (args.days is not None and args.days < 0):
        raise BadInput("--keep and --days must not be negative")
    database = open_database(args.state)
    state = StateFolder.at(args.state)
    store = Store(state.store)
    use = StateUse(state.root, alone=True)
    try:
        garbage = find_garbage(database, state, store, Policy(args.keep, args.days))
        volumes = [safe_name(name) for name in args.volume]
        for name, folder in zip(args.volume, volumes, strict=True):
            if folder not in garbage.volumes:
                raise BadInput(f"there is no volume {name!r}", hint=f"there are {', '.join(garbage.volumes) or 'none'}")
        images = _Images(database, garbage) if args.images else None
        if args.yes:
            collect(garbage, database, state, store)
            if images is not None:
                images.remove()
            for folder in volumes:
                shutil.rmtree(state.root / "volumes" / folder)
    finally:
        use.release()
        database.close()
    unused = images.unused if images is not None else []
    _print_json(garbage, volumes, unused, args.yes) if args.json else _print(garbage, volumes, unused, args.yes)
    return 0


class _Images:
    """The engine's images with installed packages that no run that stays used. They are made again when they are wanted."""

    def __init__(self, database: Database, garbage: Garbage) -> None:
        """Raises EnvironmentProblem if no engine answers."""
        from intermodal.backends.docker.client import connect
        from intermodal.backends.docker.layers import made

        self._client = connect()
        rows = database.query("SELECT DISTINCT run, image FROM attempts")
        used = {row["image"] for row in rows if row["run"] not in set(garbage.runs)}
        self.unused = [image for image in made(self._client) if image.id not in used]

    def remove(self) -> None:
        """Remove them; what a container holds stays."""
        from intermodal.backends.docker.layers import remove

        self.unused = [image for image in self.unused if remove(self._client, image)]


def _print_json(garbage: Garbage, volumes: list[str], images: list[Layered], removed: bool) -> None:
    document = {
        "removed": removed,
        "runs": list(garbage.runs),
        "cache_entries": len(garbage.cache),
        "artifacts": dict(garbage.entries),
        "bytes": garbage.size,
        "images": {image.id: image.packages for image in images},
        "volumes": {name: {"bytes": size, "goes": name in volumes} for name, size in garbage.volumes.items()},
    }
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _print(garbage: Garbage, volumes: list[str], images: list[Layered], removed: bool) -> None:
    for name in garbage.runs:
        print(f"run {name}")
    word = "removed" if removed else "would go"
    print(
        f"{word}: {len(garbage.runs)} runs, {len(garbage.cache)} cache entries, {len(garbage.entries)} artifacts"
        f" ({garbage.size / 2**20:.1f} MiB)"
    )
    for image in images:
        print(f"image {image.id.removeprefix('sha256:')[:12]} ({image.packages}): {word}")
    for name, size in garbage.volumes.items():
        what = word if name in volumes else f"kept; `--volume {name}` removes it"
        print(f"volume {name} ({size / 2**20:.1f} MiB): {what}")
    if not removed:
        print("nothing is removed without --yes")

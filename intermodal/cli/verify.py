"""`intermodal verify`: read every stored artifact again and compare it with its digest (bit rot, tampering).

Exit 0 if all are as they were published, 1 if any is not.
"""

from __future__ import annotations

import argparse
import json

from intermodal.cli.records import open_database
from intermodal.engine.layout import StateFolder
from intermodal.engine.references import users
from intermodal.engine.resume import StateUse
from intermodal.engine.store import Store

HELP = "check every stored artifact against its digest"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remove", action="store_true", help="remove what is damaged, so that the tasks that made it run again"
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    state = StateFolder.at(args.state)
    store = Store(state.store)
    use = StateUse(state.root)
    try:
        digests = store.digests()
        damaged = {digest: damage for digest in digests if (damage := store.damage(digest, thorough=True)) is not None}
        wanted = users(database)
        missing = {digest: "it is not in the store" for digest in wanted if digest not in set(digests)}
        if args.remove:
            for digest in damaged:
                store.remove(digest)
    finally:
        use.release()
        database.close()
    found = [
        {
            "digest": digest,
            "damage": damage,
            "used_by": wanted.get(digest, []),
            "removed": args.remove and digest in damaged,
        }
        for digest, damage in sorted({**missing, **damaged}.items())
    ]
    if args.json:
        print(json.dumps({"checked": len(digests), "damaged": found}, indent=2, ensure_ascii=False))
    else:
        _print(len(digests), found)
    return 1 if found else 0


def _print(checked: int, found: list[dict[str, object]]) -> None:
    for entry in found:
        print(f"{entry['digest']}: {entry['damage']}{' (removed)' if entry['removed'] else ''}")
        for name in entry["used_by"] if isinstance(entry["used_by"], list) else ():
            print(f"  {name}")
    print(
        f"{checked} artifacts checked, {len(found)} damaged"
        if found
        else f"{checked} artifacts are as they were published"
    )
    if found and not any(entry["removed"] for entry in found):
        print(
            "a damaged artifact is never used: the task that made it runs again; `intermodal verify --remove` takes it away"
        )

"""`intermodal shell [RUN] TASK`: a shell where a task's attempt ran, or one command there (`-c`).

The attempt as it was: the same image, variables, inputs, limits and network; its own command in the history. Its outputs are a
copy that goes when the shell ends, so that nothing on record changes. The exit code is the shell's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from intermodal.cli.backends import backend_of
from intermodal.cli.records import open_database
from intermodal.cli.targets import WORDS_HELP, find_target, one_task
from intermodal.cli.terminal import dying_tidily
from intermodal.engine.backend import Shells
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.past import PastAttempt, find_attempt
from intermodal.engine.resume import StateUse
from intermodal.engine.temporary import discard, owned_name, owner_lives
from intermodal.errors import BadInput, Unsupported

HELP = "open a shell where a task ran, as it was"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="[RUN] TASK", help=f"{WORDS_HELP}; no task: the one that failed")
    parser.add_argument(
        "-c", dest="command", metavar="COMMAND", help="run this with sh instead of an interactive shell"
    )
    parser.add_argument("--attempt", type=int, metavar="N", help="which attempt (default: the last)")


def run(args: argparse.Namespace) -> int:
    if args.command is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("a shell needs a terminal", hint="run one command with -c 'COMMAND'")
    database = open_database(args.state)
    state = StateFolder(args.state.absolute())
    use = StateUse(state.root)
    try:
        target = find_target(database, state, args.words)
        past = find_attempt(database, state, target.run_id, one_task(target, database, state), args.attempt)
        with dying_tidily():
            return _open(database, state, past, args.command)
    finally:
        use.release()
        database.close()


def _open(database: Database, state: StateFolder, past: PastAttempt, command: str | None) -> int:
    backend = backend_of(database, state.root, past.run)
    if not isinstance(backend, Shells):
        raise Unsupported(f"backend {backend.name} opens no shells")
    folder = state.run(past.run) / "shells" / owned_name()
    here = past.moved(past.run, folder, backend)
    for left in folder.parent.glob("*"):  # of a shell that was killed: it may hold secrets
        if not owner_lives(left.name):
            discard(left)
    try:
        backend.prepare(state.root)
        past.check(backend, code=False)  # without images the code is the project's, and whoever looks may be mending it
        _copy_outputs(past.folder / "outputs", folder / "outputs")
        with here.provided(backend) as provided:
            launch = here.launch(provided)
            if command is None:
                _introduce(past, backend.capabilities.notes)
            return backend.shell(launch, command)
    finally:
        backend.close()
        discard(folder)
        with suppress(OSError):  # another shell of the run is open
            folder.parent.rmdir()


def _copy_outputs(source: Path, target: Path) -> None:
    """Copy what a failed attempt left; one that succeeded left nothing, its outputs are in the store."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=_special_files)
    for part in ("artifacts", "parameters"):
        (target / part).mkdir(parents=True, exist_ok=True)


def _special_files(folder: str, names: list[str]) -> list[str]:
    """Name the FIFOs, sockets and devices: copying one would block, or fail."""
    paths = {name: Path(folder, name) for name in names}
    return [name for name, path in paths.items() if not (path.is_symlink() or path.is_file() or path.is_dir())]


def _introduce(past: PastAttempt, notes: tuple[str, ...]) -> None:
    how = past.failure or ("succeeded" if past.ended else "has no end on record")
    lines = [
        f"{past.run}/{past.path} attempt {past.number} ({how})",
        f"image {past.image.reference} {past.image.id[:19]}",
        *notes,
        "its command is in the history: arrow up, Enter; outputs are a copy that goes when you leave",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)

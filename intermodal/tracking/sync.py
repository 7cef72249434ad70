"""Sending runs that are over, or were: what `intermodal tracking sync` does, and one look of whoever follows a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.tracking.outbox import Outbox, mark
from intermodal.tracking.rest import Client
from intermodal.tracking.sender import Sender, sending
from intermodal.tracking.tree import is_tracked, read_tree

_PATIENCE = 60.0
"""Seconds to wait for another process that sends the same run."""


@dataclass(frozen=True)
class Synced:
    """What became of one run: `sent` is False if another process is sending it. `refused`: what the server does not take."""

    run: str
    sent: bool
    refused: tuple[str, ...] = ()


def send_once(database: Database, state: StateFolder, run: str, sender: Sender, outbox: Outbox) -> bool:
    """Send what is missing of a run as it is now; return whether it is over and all of it sent. Raises Unreachable, Rejected."""
    row = database.query("SELECT * FROM runs WHERE id=?", (run,))[0]
    tree = read_tree(database, state, run)
    sender.send(tree)
    if tree.root.over:
        outbox.set_complete(run, mark(row))
    return tree.root.over


def unsent(database: Database, outbox: Outbox) -> Iterator[sqlite3.Row]:
    """Yield the runs that the server has not wholly, oldest first."""
    complete = outbox.complete()
    for row in database.query("SELECT id, turn, state, ended, request FROM runs ORDER BY started"):
        if complete.get(row["id"]) != mark(row) and is_tracked(row):
            yield row


def sync(
    database: Database,
    state: StateFolder,
    client: Client,
    outbox: Outbox,
    runs: list[str],
    say: Callable[[Synced], None],
) -> None:
    """Send what is missing of each run. Raises Unreachable, Rejected."""
    for run in runs:
        with sending(state.run(run), _PATIENCE) as mine:
            if not mine:
                say(Synced(run, sent=False))
                continue
            sender = Sender(client, outbox, run)
            send_once(database, state, run, sender, outbox)
            say(Synced(run, sent=True, refused=tuple(sender.refused)))

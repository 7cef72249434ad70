"""Sending runs that are over, or were: what `intermodal tracking sync` does, and one look of whoever follows a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.tracking.outbox import Outbox, mark
from intermodal.tracking.rest import Client, Rejected, Unreachable
from intermodal.tracking.sender import Sender, sending
from intermodal.tracking.tree import is_tracked, read_tree
from intermodal.turns import Busy

_PATIENCE = 60.0
"""Seconds to wait for another process that sends the same run."""


@dataclass(frozen=True)
class Synced:
    """What became of one run. `problem` is why it was not sent wholly, empty if it was; `refused`: what the server does not take."""

    run: str
    problem: str = ""
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
    database: Database, state: StateFolder, client: Client, outbox: Outbox, runs: Sequence[str]
) -> Iterator[Synced]:
    """Send what is missing of each run, and yield what became of it; one that the server cannot take keeps no other waiting.

    Raises Unreachable if the server is gone.
    """
    for run in runs:
        sender = Sender(client, outbox, run)
        problem = ""
        try:
            with sending(state.run(run), _PATIENCE):
                send_once(database, state, run, sender, outbox)
        except (Busy, Rejected) as error:
            problem = str(error)
        except Unreachable as error:
            client.check()
            problem = str(error)
        yield Synced(run, problem, tuple(sender.refused))

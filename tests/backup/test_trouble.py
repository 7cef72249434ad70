"""What may happen to a backup: a place that rots, a database that stays locked, a kill at a bad moment."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from intermodal.engine.layout import StateFolder
from tests.backup.conftest import refused, said
from tests.backup.server import ROOT, Azure, start
from tests.support.command import Command

_KILLED_AT = """
import os, re, signal, sys
from intermodal.cli.main import main

def look(event, given):
    if event == "os.rename" and re.search(sys.argv[1], f"{given[0]} -> {given[1]}"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
main(sys.argv[2:])
"""
"""The command, killed by itself as it is about to rename something to what a pattern says."""

_KILLED_WRITER = """
import os, signal, sqlite3, sys

database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so that half a transaction is in the file
database.execute("BEGIN")
database.executemany("UPDATE t SET a = ? WHERE a = ?", [(-1, number) for number in range(1000)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_rotted_at_the_place_is_put_there_anew(intermodal: Command, volume: Path, drive: Path, tmp_path: Path):
    (volume / "a").write_bytes(b"x" * 100)
    (volume / "b").write_bytes(b"y" * 100)
    said(intermodal("backup", str(drive), "--json"))
    digest = hashlib.sha256(b"x" * 100).hexdigest()
    (drive / "objects" / digest[:2] / digest).write_bytes(bytes(100))
    assert b": whole, by its sizes" in intermodal("backup", str(drive), "--list").stdout
    assert b": a is not what was put there" in intermodal("backup", str(drive), "--list", "--verify").stdout
    done = intermodal("backup", str(drive), "--json")
    sent = said(done)
    assert (sent["new_files"], sent["healed_files"]) == (0, 1)
    assert b"a: was damaged at the place (not what was put there), put there anew" in done.stderr
    said(intermodal("restore", str(drive), "--into", str(tmp_path / "back"), "--json"))
    assert (tmp_path / "back/hpo/a").read_bytes() == b"x" * 100


def test_a_locked_database_is_not_waited_for_for_ever(intermodal: Command, volume: Path, drive: Path):
    writer = sqlite3.connect(volume / "study.db", isolation_level=None)
    writer.execute("CREATE TABLE t (a INTEGER)")
    writer.execute("BEGIN EXCLUSIVE")
    done = intermodal("backup", str(drive), "--wait", "0.5")
    refused(done, "study.db: another process has held the database locked for 0.5 s")
    assert done.returncode == 3
    writer.execute("COMMIT")
    writer.close()
    assert said(intermodal("backup", str(drive), "--wait", "0.5", "--json"))["files"] == 1


def test_half_a_transaction_of_a_killed_writer_is_taken_back(
    intermodal: Command, volume: Path, drive: Path, tmp_path: Path
):
    database = sqlite3.connect(volume / "study.db")
    database.execute("CREATE TABLE t (a INTEGER)")
    database.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(1000)])
    database.commit()
    database.close()
    killed = subprocess.run([sys.executable, "-c", _KILLED_WRITER, str(volume / "study.db")])
    assert killed.returncode == -signal.SIGKILL and (volume / "study.db-journal").stat().st_size > 0
    said(intermodal("backup", str(drive), "--json"))
    said(intermodal("restore", str(drive), "--into", str(tmp_path / "back"), "--json"))
    copy = sqlite3.connect(tmp_path / "back/hpo/study.db")
    assert copy.execute("SELECT count(*), min(a) FROM t").fetchone() == (1000, 0)
    copy.close()


def _open(intermodal: Command, drive: Path) -> None:
    StateFolder(intermodal.state).volume("hpo", "")


def _back_up(intermodal: Command, drive: Path) -> None:
    assert said(intermodal("backup", str(drive), "--json"))["files"] == 1


def _restore(intermodal: Command, drive: Path) -> None:
    refused(intermodal("restore", str(drive)), "is there already and holds something")


@pytest.mark.parametrize(
    ("at", "there", "mended_by"),
    [
        (r"-> .*/\.hpo\.intermodal-old-", "here", _back_up),
        (r"/\.hpo\.intermodal-new-.* -> .*/hpo$", "here", _open),
        (r"/\.hpo\.intermodal-new-.* -> .*/hpo$", "here", _back_up),
        (r"/\.hpo\.intermodal-new-.* -> .*/hpo$", "here", _restore),
        (r"/\.hpo\.intermodal-old-.* ->", "kept", _restore),
    ],
)
def test_a_restore_that_is_killed_loses_nothing(
    intermodal: Command,
    volume: Path,
    drive: Path,
    at: str,
    there: str,
    mended_by: Callable[[Command, Path], None],
):
    (volume / "a").write_text("kept")
    said(intermodal("backup", str(drive), "--json"))
    (volume / "a").write_text("here")
    command = [sys.executable, "-c", _KILLED_AT, at, "restore", str(drive), "--force", "--state", str(intermodal.state)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert any(path.name.startswith(".") for path in volume.parent.iterdir()), "the kill left nothing"
    mended_by(intermodal, drive)
    assert [path.name for path in volume.parent.iterdir()] == ["hpo"]
    assert (volume / "a").read_text() == there


@pytest.mark.parametrize("kind", ["folder", "azure"])
def test_a_backup_that_is_killed_leaves_the_older_one_the_newest(
    intermodal: Command, volume: Path, drive: Path, tmp_path: Path, azure: Azure, kind: str
):
    place, sent = (str(drive), lambda: len(list(drive.glob("objects/*/*")))) if kind == "folder" else azure.place()
    (volume / "a").write_text("old")
    old = said(intermodal("backup", place, "--json"))["snapshot"]
    for number in range(60 if kind == "folder" else 20):
        (volume / f"{number:03}").write_bytes(os.urandom(300_000))
    before = sent()
    child = start(intermodal, "backup", place)
    end = time.monotonic() + 60
    while sent() < before + 3 and time.monotonic() < end:
        time.sleep(0.002)
    child.kill()
    assert child.wait() == -signal.SIGKILL and before + 3 <= sent() < before + len(list(volume.iterdir())) - 1
    listed = said(intermodal("backup", place, "--list", "--verify", "--json"))
    assert [(item["snapshot"], item["problem"]) for item in listed] == [(old, None)]
    said(intermodal("restore", place, "--into", str(tmp_path / "back"), "--json"))
    assert [path.name for path in (tmp_path / "back/hpo").iterdir()] == ["a"]
    again = said(intermodal("backup", place, "--json"))
    assert 0 < again["new_files"] < len(list(volume.iterdir())) - 1, "what had arrived is not sent again"

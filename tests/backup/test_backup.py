"""`intermodal backup` and `restore` as typed: real SQLite databases in use, real studies, places that were cut off."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from intermodal.backup.places import open_place
from intermodal.backup.restoring import restore
from intermodal.backup.sending import back_up
from intermodal.errors import BadInput
from intermodal.jobs.studies import backup_hpo_study_to_drive
from tests.backup.conftest import refused, said
from tests.support.command import Command


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


_WRITER = """
import sys
import optuna

study = optuna.create_study(study_name="b", storage=f"sqlite:///{sys.argv[1]}")
while True:
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    print(len(study.trials), flush=True)
"""


def studies(volume: Path) -> None:
    """A study as the hpo step keeps it, one in a database, and one in the older layout: right in the folder of its backbone."""
    (volume / "study-a1b2").mkdir()
    storage = optuna.storages.JournalStorage(JournalFileBackend(f"{volume}/study-a1b2/journal.log"))
    optuna.create_study(study_name="a", storage=storage).optimize(objective, n_trials=3)
    for folder in ("study-c3d4e5f6", "minilm"):
        (volume / folder).mkdir()
    optuna.create_study(study_name="hpo_minilm", storage=f"sqlite:///{volume}/minilm/study.db").optimize(
        objective, n_trials=2
    )


def test_studies_go_on_on_a_fresh_machine(intermodal: Command, volume: Path, drive: Path, tmp_path: Path):
    """Of every layout, while Optuna writes one of them."""
    studies(volume)
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(volume / "study-c3d4e5f6/study.db")], stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 3:
            pass
        sent = said(intermodal("backup", str(drive / "kept"), "--json"))
        assert writer.stdout.readline() and writer.poll() is None, "it went on meanwhile"
    finally:
        writer.kill()
        writer.communicate()
    assert sent["new_files"] == sent["files"] == 3
    fresh = Command(tmp_path, tmp_path / "fresh")
    [place] = said(fresh("restore", str(drive / "kept"), "--json")).values()
    assert place == str((tmp_path / "fresh/volumes/hpo").absolute())
    journal = optuna.storages.JournalStorage(JournalFileBackend(f"{place}/study-a1b2/journal.log"))
    for name, storage, done in (
        ("a", journal, 3),
        ("b", f"sqlite:///{place}/study-c3d4e5f6/study.db", 3),
        ("hpo_minilm", f"sqlite:///{place}/minilm/study.db", 2),
    ):
        study = optuna.load_study(study_name=name, storage=storage)
        complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
        study.optimize(objective, n_trials=1)
        assert len(complete) >= done and (name == "b" or len(complete) == done)
        assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
        assert sum(trial.state.name == "COMPLETE" for trial in study.trials) == len(complete) + 1


def test_what_is_there_is_not_sent_again(intermodal: Command, volume: Path, drive: Path):
    (volume / "a").write_bytes(b"x" * 1000)
    (volume / "b").write_bytes(b"x" * 1000)
    first = said(intermodal("backup", str(drive), "--json"))
    assert (first["files"], first["new_files"], first["new_bytes"]) == (2, 1, 1000)
    (volume / "c").write_bytes(b"new")
    second = said(intermodal("backup", str(drive), "--json"))
    assert (second["files"], second["new_files"], second["new_bytes"]) == (3, 1, 3)


def test_snapshots_of_one_second_are_in_order(intermodal: Command, volume: Path, drive: Path, tmp_path: Path):
    made = []
    for number in range(5):
        (volume / "a").write_text(str(number))
        made.append(said(intermodal("backup", str(drive), "--json"))["snapshot"])
    old, second = drive / made[0], made[1].partition(".")[0]
    made[0] = f"{second}Z-{old.stem.rpartition('-')[2]}.json"  # as older versions named them
    old.rename(drive / made[0])
    listed = json.loads(intermodal("backup", str(drive), "--list", "--verify", "--json").stdout)
    assert [(item["snapshot"], item["problem"]) for item in listed] == [(name, None) for name in made]
    said(intermodal("restore", str(drive), "--into", str(tmp_path / "back"), "--json"))
    assert (tmp_path / "back/hpo/a").read_text() == "4"


def test_a_database_in_use_is_copied_whole(volume: Path, drive: Path, tmp_path: Path):
    writer = sqlite3.connect(volume / "study.db", check_same_thread=False, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t (a INTEGER, b INTEGER)")
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            writer.execute("BEGIN")
            for _ in range(50):
                writer.execute("INSERT INTO t VALUES (?, ?)", (number, -number))
                number += 1
            writer.execute("COMMIT")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            back_up({"hpo": volume}, open_place(str(drive), make=True), print)
    finally:
        over.set()
        thread.join()
        writer.close()
    restore(open_place(str(drive), make=False), (tmp_path / "back").joinpath, [], print, force=False)
    assert [path.name for path in (tmp_path / "back/hpo").iterdir()] == ["study.db"]
    copy = sqlite3.connect(tmp_path / "back/hpo/study.db")
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    [(count, total)] = copy.execute("SELECT count(*), sum(a + b) FROM t").fetchall()
    assert count > 0 and count % 50 == 0 and total == 0


@pytest.mark.parametrize("damage", ["manifest cut off", "object missing", "object cut off", "object changed"])
def test_an_older_whole_snapshot_goes_before_a_damaged_one(
    intermodal: Command, volume: Path, drive: Path, tmp_path: Path, damage: str
):
    (volume / "a").write_text("old")
    said(intermodal("backup", str(drive), "--json"))
    [old] = (drive / "snapshots").iterdir()
    old.rename(old.with_name("20200101T000000Z" + old.name[16:]))
    (volume / "a").write_text("new")
    said(intermodal("backup", str(drive), "--json"))
    newest = max((drive / "snapshots").iterdir())
    digest = hashlib.sha256(b"new").hexdigest()
    victim = newest if damage.startswith("manifest") else drive / "objects" / digest[:2] / digest
    if damage.endswith("missing"):
        victim.unlink()
    elif damage.endswith("changed"):
        victim.write_text("wen")
    else:
        os.truncate(victim, 1)
    done = intermodal("restore", str(drive), "--into", str(tmp_path / "back"), "--json")
    said(done)
    assert b"passing over" in done.stderr and newest.name.encode() in done.stderr
    assert (tmp_path / "back/hpo/a").read_text() == "old"
    listed = {
        item["snapshot"]: item["problem"]
        for item in json.loads(intermodal("backup", str(drive), "--list", "--json").stdout)
    }
    assert [bool(problem) for problem in listed.values()] == [False, not damage.endswith("changed")]
    listed = json.loads(intermodal("backup", str(drive), "--list", "--verify", "--json").stdout)
    assert [bool(item["problem"]) for item in listed] == [False, True]


def test_nothing_is_replaced_unless_that_is_asked_for(intermodal: Command, volume: Path, drive: Path):
    (volume / "a").write_text("kept")
    said(intermodal("backup", str(drive), "--json"))
    (volume / "a").write_text("here")
    refused(intermodal("restore", str(drive)), "is there already")
    assert (volume / "a").read_text() == "here"
    assert intermodal("restore", str(drive), "--force").returncode == 0
    assert (volume / "a").read_text() == "kept"
    assert [path.name for path in volume.parent.iterdir()] == ["hpo"], "nothing else is left"


def test_mistakes_are_one_line(intermodal: Command, volume: Path, tmp_path: Path):
    refused(intermodal("backup", str(tmp_path / "not" / "mounted")), "there is no such folder")
    refused(intermodal("backup", "nosuch://bucket"), "nosuch")
    refused(intermodal("restore", str(tmp_path / "none")), "there is no such folder")
    refused(intermodal("backup", str(tmp_path), str(tmp_path / "gone")), "there is no such folder")
    shutil.rmtree(volume)
    refused(intermodal("backup", str(tmp_path)), "there is no state volume")


def test_links_are_left_out_and_said(volume: Path, drive: Path):
    (volume / "a").symlink_to("/etc/passwd")
    (volume / "b").write_text("b")
    lines: list[str] = []
    assert back_up({"hpo": volume}, open_place(str(drive), make=True), lines.append).files == 1
    assert len(lines) == 1 and "left out" in lines[0]


def test_studies_are_kept_by_the_name_that_notebooks_know(volume: Path, drive: Path, tmp_path: Path):
    studies(volume)
    sent = backup_hpo_study_to_drive(volume, drive)
    assert sent.new_files > 0
    for name in ("study-a1b2", "minilm"):
        assert backup_hpo_study_to_drive(volume / name, drive).new_files <= 1, (
            "SQLite may copy itself with another counter"
        )
    with pytest.raises(BadInput, match="holds no study"):
        backup_hpo_study_to_drive(tmp_path / "state", drive)
    with pytest.raises(BadInput, match="there is no such folder"):
        backup_hpo_study_to_drive(volume / "gone", drive)
    with pytest.raises(BadInput, match="lies in"):
        backup_hpo_study_to_drive(volume, volume.parent)

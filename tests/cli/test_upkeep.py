"""`verify` and `gc` as typed, on the state folder of real runs."""

import os
import shutil
from pathlib import Path

from kfp import dsl

from intermodal.engine.resume import StateUse
from tests.cli.test_commands import refused
from tests.engine.steps import make, read
from tests.support.typed import Command


@dsl.pipeline(name="demo")
def demo(text: str = "a") -> str:
    return read(data=make(text=text).outputs["data"]).outputs["out"]


def entries(intermodal: Command) -> list:
    return sorted((intermodal.state / "store").glob("??/*"))


def test_verify_finds_what_changed_and_names_who_made_it(intermodal: Command):
    path = intermodal.write(demo)
    run = intermodal.json("run", path)["run"]
    assert intermodal.json("verify") == {"checked": 1, "damaged": []}
    [entry] = entries(intermodal)
    victim = entry / "data" / "file"
    times = victim.stat()
    victim.chmod(0o644)
    victim.write_text("b")  # same size; the time is put back below: only reading it again can tell
    victim.chmod(0o444)
    os.utime(victim, ns=(times.st_mtime_ns, times.st_mtime_ns))
    done = intermodal("verify")
    assert done.returncode == 1
    assert f"{run}/make" in done.stdout and "1 damaged" in done.stdout
    assert intermodal("verify", "--remove").returncode == 1
    assert entries(intermodal) == []
    again = intermodal.json("run", path)
    assert again["state"] == "SUCCEEDED" and again["parameters"] == {"Output": "a"}
    assert intermodal.json("verify")["damaged"] == []


def test_a_report_is_written_where_it_says(intermodal: Command):
    run = intermodal.json("run", intermodal.write(demo))["run"]
    said = intermodal.json("report")
    assert said["run"] == run and "<html" in Path(said["report"]).read_text()
    assert intermodal.json("report", "-o", "mine.html")["report"] == "mine.html"
    assert (intermodal.folder / "mine.html").read_bytes() == Path(said["report"]).read_bytes()


def test_an_entry_that_is_gone_is_damage(intermodal: Command):
    intermodal.ok("run", intermodal.write(demo))
    [entry] = entries(intermodal)
    (entry / "data").chmod(0o755)
    shutil.rmtree(entry)
    done = intermodal("verify")
    assert done.returncode == 1 and "it is not in the store" in done.stdout


def test_gc_only_says_what_would_go_until_it_is_told(intermodal: Command):
    path = intermodal.write(demo)
    for text in ("a", "b", "c"):
        intermodal.ok("run", path, "--arg", f"text={text}")
    said = intermodal.json("gc", "--keep", "1")
    assert not said["removed"] and len(said["runs"]) == 2 and len(said["artifacts"]) == 2 and said["bytes"] > 0
    assert len(entries(intermodal)) == 3 and len(intermodal.ok("runs").splitlines()) == 3
    assert intermodal.json("gc", "--keep", "1", "--days", "1")["runs"] == []


def test_gc_removes_runs_and_what_only_they_needed(intermodal: Command):
    path = intermodal.write(demo)
    first = intermodal.json("run", path, "--arg", "text=a")["run"]
    intermodal.ok("run", path, "--arg", "text=b")
    same = intermodal.json("run", path, "--arg", "text=a")  # cached from the first run, whose entries it needs
    assert same["state"] == "CACHED"
    gone = intermodal.json("gc", "--keep", "1", "--yes")
    assert first in gone["runs"] and len(gone["artifacts"]) == 1
    assert [line.split()[0] for line in intermodal.ok("runs").splitlines()] == [same["run"]]
    assert sorted(folder.name for folder in (intermodal.state / "runs").iterdir()) == [same["run"]]
    assert intermodal.json("verify") == {"checked": 1, "damaged": []}
    assert intermodal.json("run", path, "--arg", "text=a")["state"] == "CACHED"
    assert intermodal.json("run", path, "--arg", "text=b")["state"] == "SUCCEEDED"


def test_gc_keeps_volumes_unless_one_is_named(intermodal: Command):
    intermodal.ok("run", intermodal.write(demo))
    (intermodal.state / "volumes" / "studies").mkdir(parents=True)
    (intermodal.state / "volumes" / "studies" / "study.db").write_text("x" * 100)
    assert intermodal.json("gc", "--keep", "0", "--yes")["volumes"] == {"studies": {"bytes": 100, "goes": False}}
    assert (intermodal.state / "volumes" / "studies" / "study.db").is_file()
    refused(intermodal("gc", "--volume", "nothing"), 2, "there is no volume 'nothing'")
    intermodal.ok("gc", "--volume", "studies", "--yes")
    assert not (intermodal.state / "volumes" / "studies").exists()


def test_gc_waits_for_nobody_and_touches_nothing_in_use(intermodal: Command):
    intermodal.ok("run", intermodal.write(demo))
    use = StateUse(intermodal.state)
    try:
        refused(intermodal("gc", "--yes"), 2, "runs are going on here")
    finally:
        use.release()

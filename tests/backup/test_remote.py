"""Places that fsspec reaches: a real server of blobs, and servers that refuse."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest

from tests.backup.conftest import refused, said
from tests.backup.server import VARIABLE, Azure, run
from tests.support.command import Command


def test_a_place_that_fsspec_reaches(intermodal: Command, volume: Path, azure: Azure, tmp_path: Path):
    place, _ = azure.place()
    (volume / "deep").mkdir()
    (volume / "deep/a").write_bytes(b"a" * 3_000_000)
    (volume / "worker.lock").touch()
    assert said(run(intermodal, "backup", place, "--json"))["new_files"] == 2
    (volume / "b").write_text("b")
    assert said(intermodal("backup", place, "--json"))["new_files"] == 1
    listed = said(intermodal("backup", place.replace("az:", "abfs:"), "--list", "--verify", "--json"))
    assert [item["problem"] for item in listed] == [None, None]
    said(run(intermodal, "restore", place, "hpo", "--into", str(tmp_path / "back"), "--json"))
    assert (tmp_path / "back/hpo/deep/a").read_bytes() == b"a" * 3_000_000
    assert {path.name for path in (tmp_path / "back/hpo").iterdir()} == {"deep", "b", "worker.lock"}


def test_a_server_that_refuses_is_one_line(intermodal: Command, volume: Path, azure: Azure):
    (volume / "a").write_text("a")
    place, _ = azure.place()
    wrong = azure.with_key(base64.b64encode(b"wrong" * 13).decode())
    for verb in ("backup", "restore"):
        done = run(intermodal, verb, place, **{VARIABLE: wrong})
        refused(done, f"{place} cannot be read: ")
        assert b"authenticate" in done.stderr and b"Traceback" not in done.stderr
    refused(intermodal("backup", "az://absent/kept"), "az://absent/kept cannot be written: No such container")


@pytest.mark.parametrize("verb", ["backup", "restore"])
@pytest.mark.parametrize(
    "address",
    [
        "ftp://me:hush@127.0.0.1:{port}/kept",
        "http://me:hush@127.0.0.1:{port}/kept",
        "http://me:hu/hush@127.0.0.1:{port}/kept",
        "sftp://me:hush@127.0.0.1:{port}/kept",
        "simplecache::http://me:hush@127.0.0.1:{port}/kept?token=hush",
    ],
)
def test_no_error_tells_a_password(intermodal: Command, volume: Path, address: str, verb: str):
    (volume / "a").write_text("a")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = address.format(port=closed.getsockname()[1])
        done = intermodal(verb, address)
        debug = intermodal(verb, address, "--debug")
    refused(done, "kept")
    assert b"Traceback" not in done.stderr and b"hush" not in done.stderr + done.stdout
    assert b"Traceback" in debug.stderr and b"hush" not in debug.stderr

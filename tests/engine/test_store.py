"""The store: one entry for equal content, nothing half-written, nothing but files and folders."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intermodal.engine.store import STORED_TIME_NS, BadContent, Store, scan

names = st.text("abcxyz", min_size=1, max_size=4)


def tree(root: Path, files: dict[str, bytes]) -> Path:
    root.mkdir(parents=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    st.dictionaries(names, st.binary(max_size=20), max_size=4),
    st.dictionaries(names, st.binary(max_size=20), max_size=4),
)
def test_digests_are_equal_exactly_where_contents_are(
    tmp_path: Path, first: dict[str, bytes], second: dict[str, bytes]
):
    number = len(list(tmp_path.iterdir()))
    a = scan(tree(tmp_path / f"{number}a", first)).digest
    b = scan(tree(tmp_path / f"{number}b", dict(reversed(list(second.items()))))).digest
    assert (a == b) == (first == second)


def test_neither_place_nor_time_counts_but_the_executable_bit_does(tmp_path: Path):
    one, two = tree(tmp_path / "one", {"f": b"x"}), tree(tmp_path / "two", {"f": b"x"})
    os.utime(two / "f", (1, 1))
    assert scan(one).digest == scan(two).digest
    (two / "f").chmod(0o755)
    assert scan(one).digest != scan(two).digest
    (tmp_path / "f").write_bytes(b"x")
    assert scan(tmp_path / "f").digest != scan(one).digest


def test_an_empty_folder_inside_counts(tmp_path: Path):
    one, two = tree(tmp_path / "one", {"f": b"x"}), tree(tmp_path / "two", {"f": b"x"})
    (two / "empty").mkdir()
    assert scan(one).digest != scan(two).digest


def test_what_is_published_is_frozen_and_the_source_stays(tmp_path: Path):
    store = Store(tmp_path / "store")
    linked, copied = tree(tmp_path / "linked", {"f": b"x"}), tree(tmp_path / "copied", {"f": b"y"})
    first, second = store.publish(linked, link=True), store.publish(copied)
    assert (linked / "f").samefile(store.path(first) / "f")
    assert (copied / "f").read_bytes() == b"y" and os.access(copied / "f", os.W_OK)
    assert (store.path(first) / "f").read_bytes() == b"x"
    assert (store.path(second) / "f").stat().st_mode & 0o222 == 0
    assert store.damage(first) is None and store.damage("0" * 64) == "it is not in the store"
    assert store.digests() == sorted([first, second])
    assert store.manifest(first).size == 1
    assert list((tmp_path / "store" / "tmp").glob("*")) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "link inside", "fifo inside"])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: str):
    store = Store(tmp_path / "store")
    target = tmp_path / "bad"
    if kind.endswith("inside"):
        target.mkdir()
    place = target / "x" if kind.endswith("inside") else target
    if kind.startswith("link"):
        place.symlink_to("/etc/passwd")
    else:
        os.mkfifo(place)
    with pytest.raises(BadContent):
        store.publish(target, link=True)
    assert list((tmp_path / "store" / "tmp").glob("*")) == []


def test_many_publishing_the_same_at_once_make_one_entry(tmp_path: Path):
    sources = [tree(tmp_path / f"s{number}", {"f": b"x" * 100_000}) for number in range(8)]
    digests: list[str] = []
    start = threading.Barrier(8)

    def publish(source: Path) -> None:
        start.wait()
        digests.append(Store(tmp_path / "store").publish(source, link=True))

    threads = [threading.Thread(target=publish, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8 and len(set(digests)) == 1
    assert len(list((tmp_path / "store" / digests[0][:2]).glob("*"))) == 1
    assert list((tmp_path / "store" / "tmp").glob("*")) == []


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def same_size_and_time(path: Path) -> None:
    status = path.stat()
    overwrite(path, b"y" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


DAMAGES = {
    "no manifest": (lambda entry: (entry / "manifest.json").unlink(), "a part of it is gone"),
    "manifest is no JSON": (lambda entry: overwrite(entry / "manifest.json", b"\xff{"), "its manifest is damaged"),
    "manifest is other JSON": (lambda entry: overwrite(entry / "manifest.json", b"[1]"), "its manifest is damaged"),
    "manifest of something else": (
        lambda entry: overwrite(entry / "manifest.json", b'{"directory":true,"entries":[],"folders":[]}'),
        "its manifest is damaged",
    ),
    "no data": (lambda entry: shutil.rmtree(entry / "data"), "a part of it is gone"),
    "a file is gone": (lambda entry: (entry / "data" / "f").unlink(), "'f' is gone"),
    "a file more": (lambda entry: (entry / "data" / "g").write_bytes(b""), "'g' does not belong to it"),
    "a folder more": (lambda entry: (entry / "data" / "g").mkdir(), "its folders have changed"),
    "a longer file": (lambda entry: overwrite(entry / "data" / "f", b"xx"), "'f' has changed"),
    "another file of the same size": (lambda entry: overwrite(entry / "data" / "f", b"y"), "'f' has changed"),
    "a link": (lambda entry: (entry / "data" / "l").symlink_to("/etc/passwd"), "symbolic link"),
    "the executable bit": (lambda entry: (entry / "data" / "f").chmod(0o755), "'f' has changed"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_entry_says_what_is_wrong_and_is_replaced(tmp_path: Path, kind: str):
    store = Store(tmp_path / "store")
    digest = store.publish(tree(tmp_path / "a", {"f": b"x"}))
    damage, words = DAMAGES[kind]
    damage(store.path(digest).parent)
    found = store.damage(digest)
    assert found is not None and words in found
    assert store.publish(tree(tmp_path / "b", {"f": b"x"}), link=True) == digest
    assert store.damage(digest, thorough=True) is None


def test_only_a_thorough_look_finds_bytes_that_changed_behind_size_and_time(tmp_path: Path):
    store = Store(tmp_path / "store")
    digest = store.publish(tree(tmp_path / "a", {"f": b"x"}))
    same_size_and_time(store.path(digest) / "f")
    assert store.damage(digest) is None
    assert store.damage(digest, thorough=True) == "'f' has changed"


def test_a_file_with_another_time_is_read_once(tmp_path: Path):
    store = Store(tmp_path / "store")
    digest = store.publish(tree(tmp_path / "a", {"f": b"x"}))
    os.utime(store.path(digest) / "f")
    assert store.damage(digest) is None
    assert (store.path(digest) / "f").stat().st_mtime_ns == STORED_TIME_NS


def test_an_entry_goes_at_once(tmp_path: Path):
    store = Store(tmp_path / "store")
    digest = store.publish(tree(tmp_path / "a", {"f": b"x"}))
    store.remove(digest)
    store.remove(digest)
    assert store.digests() == [] and list((tmp_path / "store" / "tmp").glob("*")) == []

"""The dataset step as a user meets it: the real command, good and bad folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.dataset.generator import ENTITY_TYPES, generate
from components.ner.formats import load_split, read_manifest

ROOT = Path(__file__).parents[3]


def dataset(out: Path, *arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "components.dataset", "--dataset", str(out / "dataset")]
    command += ["--profile", str(out / "profile.md"), "--profile-html", str(out / "profile.html"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=out)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The step ended with exit code 2, one line of error, perhaps a hint, and no dataset."""
    assert done.returncode == 2, done
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    for word in words:
        assert word in done.stderr


def doc(text: str, *spans: list[Any]) -> dict[str, Any]:
    return {"text": text, "annotations": list(spans)}


GOOD = [doc(f"Anna{i} works at Acme", [0, 4 + len(str(i)), "PERSON"]) for i in range(20)]


def folder(path: Path, **files: Any) -> Path:
    """Write files named `train_json=...` (JSON if no text) into a new folder."""
    target = path / "data"
    target.mkdir()
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        text = content if isinstance(content, str) else json.dumps(content)
        (target / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
    return target


def test_generated_data_is_the_same_in_every_process(tmp_path: Path):
    contents = []
    for hash_seed in ("1", "2"):
        out = tmp_path / hash_seed
        out.mkdir()
        assert dataset(out, "--size", "tiny", hash_seed=hash_seed).returncode == 0
        contents.append({path.name: path.read_bytes() for path in (out / "dataset").iterdir()})
    assert contents[0] == contents[1]
    other = tmp_path / "other"
    other.mkdir()
    dataset(other, "--size", "tiny", "--seed", "14")
    assert (other / "dataset" / "train.jsonl").read_bytes() != contents[0]["train.jsonl"]


def test_the_test_split_holds_no_name_company_school_or_skill_of_training():
    splits = generate("small", 13)

    def said(split: str, label: str) -> set[str]:
        return {d.text[s.start : s.end].lower().split()[0] for d in splits[split] for s in d.spans if s.label == label}

    def whole(split: str, label: str) -> set[str]:
        return {d.text[s.start : s.end].lower() for d in splits[split] for s in d.spans if s.label == label}

    for label in ("PERSON", "COMPANY"):
        assert said("train", label).isdisjoint(said("test", label))
    for label in ("SCHOOL", "SKILL"):
        assert whole("train", label).isdisjoint(whole("test", label))


def test_small_data_is_what_it_says():
    splits = generate("small", 13)
    training = sum(len(document.text) for document in splits["train"])
    assert 85_000 < training < 115_000
    lengths = [len(document.text) for documents in splits.values() for document in documents]
    assert min(lengths) >= 200 and max(lengths) <= 2000
    assert sum(length > 1300 for length in lengths) > 10  # longer than one window of 256 tokens
    found = {span.label for documents in splits.values() for document in documents for span in document.spans}
    assert found == set(ENTITY_TYPES) and len(found) >= 12
    for document in (document for documents in splits.values() for document in documents):
        for before, after in zip(document.spans, document.spans[1:], strict=False):
            assert before.end <= after.start
        assert all(document.text[span.start : span.end].strip() for span in document.spans)


def test_a_seed_format_folder_becomes_a_canonical_dataset(tmp_path: Path):
    data = folder(tmp_path, train_json=GOOD, validation_json=[doc("Bob eats", [0, 3, "PERSON"])], notes_txt="x")
    done = dataset(tmp_path, "--data", str(data))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    assert manifest["entity_types"] == ["PERSON"]
    assert manifest["ignored_files"] == ["notes.txt"]
    assert {name: split["documents"] for name, split in manifest["splits"].items()} == {
        "train": 18,
        "validation": 1,
        "test": 2,
    }
    document = load_split(tmp_path / "dataset", "validation")[0]
    assert (document.text, list(map(tuple, document.spans))) == ("Bob eats", [(0, 3, "PERSON")])
    assert "notes.txt" in (tmp_path / "profile.md").read_text()
    assert "notes.txt" in (tmp_path / "profile.html").read_text()


def test_json_lines_and_capital_suffixes_are_read_and_what_happened_is_said(tmp_path: Path):
    lines = "\r\n".join(json.dumps({"text": d["text"], "spans": d["annotations"]}) for d in GOOD)
    data = folder(tmp_path, train_JSONL=lines, dev_JSON=GOOD[:2], notes_txt="x")
    done = dataset(tmp_path, "--data", str(data))
    assert done.returncode == 0, done.stderr
    assert "train: train.JSONL" in done.stdout and "files ignored: notes.txt" in done.stdout
    assert "2 documents that stand in two splits were dropped" in done.stdout
    assert "train: train.JSONL" in (tmp_path / "profile.md").read_text()


def test_drawn_splits_keep_their_place_in_the_file_and_the_labels_of_all_of_it(tmp_path: Path):
    """A label that one document alone has may fall into the drawn test split: that is no error of the user's."""
    items = [doc(f"t{i} x", [0, 2, f"L{i:02d}"]) for i in range(20)]
    assert dataset(tmp_path, "--data", str(folder(tmp_path, train_json=items))).returncode == 0
    assert len(read_manifest(tmp_path / "dataset").entity_types) == 20
    found = {split: load_split(tmp_path / "dataset", split) for split in ("train", "validation", "test")}
    assert {split: len(documents) for split, documents in found.items()} == {"train": 16, "validation": 2, "test": 2}
    for document in (document for documents in found.values() for document in documents):
        assert document.id == f"train-{int(document.text.split()[0][1:]):05d}"


def test_conll_sentences_and_documents(tmp_path: Path):
    text = "Anna\tB-PER\nLee\tI-PER\nruns\tO\n\nin\tO\nRome\tB-LOC\n"
    data = folder(tmp_path, train_conll=text, dev_conll=text + "\nAda\tB-PER\n", test_conll="-DOCSTART- O\n\n" + text)
    assert dataset(tmp_path, "--data", str(data)).returncode == 2  # the training sentences all stand in dev too
    (data / "train.conll").write_text(text.replace("runs", "walks").replace("in\tO", "near\tO"))
    assert dataset(tmp_path, "--data", str(data)).returncode == 0
    train, test = load_split(tmp_path / "dataset", "train"), load_split(tmp_path / "dataset", "test")
    assert [document.text for document in train] == ["Anna Lee walks", "near Rome"]
    assert [document.text for document in test] == ["Anna Lee runs\nin Rome"]
    assert list(map(tuple, test[0].spans)) == [(0, 8, "PER"), (17, 21, "LOC")]


def test_longest_of_overlapping_entities_wins_and_leaks_are_dropped(tmp_path: Path):
    both = doc("Anna Lee Smith", [0, 4, "A"], [0, 14, "A"], [5, 8, "A"])
    data = folder(
        tmp_path, train_json=[both, doc("x y", [0, 1, "A"])], dev_json=[doc("z", [0, 1, "A"])], test_json=[both]
    )
    assert dataset(tmp_path, "--data", str(data)).returncode == 0
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    assert (manifest["resolved_overlaps"], manifest["dropped_duplicates"]) == (4, 1)
    assert manifest["splits"]["train"]["documents"] == 1
    assert list(map(tuple, load_split(tmp_path / "dataset", "test")[0].spans)) == [(0, 14, "A")]


def test_the_content_hash_follows_the_content(tmp_path: Path):
    hashes = []
    for number, label in enumerate(("A", "A", "B")):
        out = tmp_path / str(number)
        out.mkdir()
        items = [doc(f"t{i} x", [0, 2, label]) for i in range(9)]
        assert dataset(out, "--data", str(folder(out, train_json=items))).returncode == 0
        hashes.append(read_manifest(out / "dataset").content_sha256)
    assert hashes[0] == hashes[1] != hashes[2]


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "broken JSON": ({"train_json": '[\n{"text": "a",\n}]'}, ("train.json", "line 3", "not JSON")),
    "broken line": ({"train_jsonl": json.dumps(GOOD[0]) + "\n{oops\n"}, ("train.jsonl", "line 2")),
    "out of bounds": (
        {"train_json": [doc("short", [0, 99, "A"])]},
        ("train.json: document 0", "[0, 99,", "5 characters"),
    ),
    "empty span": ({"train_json": [doc("short", [2, 2, "A"])]}, ("document 0", "[2, 2,")),
    "float offset": ({"train_json": [doc("short", [0, 1.5, "A"])]}, ("document 0", "whole numbers")),
    "no text": ({"train_json": [{"annotations": []}]}, ("document 0", "text")),
    "no annotations": ({"train_json": [{"text": "a"}]}, ("document 0", "annotations")),
    "an object": ({"train_json": {"text": "a"}}, ("expected a list",)),
    "empty file": ({"train_json": ""}, ("train.json", "empty")),
    "no training file": ({"test_json": GOOD}, ("training file",)),
    "a suffix of another kind": ({"train_txt": "a"}, ("training file", ".conll", "there is train.txt")),
    "two files": ({"train_json": GOOD, "train2_json": GOOD}, ("two files for train",)),
    "two splits in a name": ({"train_dev_json": GOOD}, ("train_dev.json", "could be")),
    "bad tag": ({"train_conll": "Anna\tX-PER\n"}, ("train.conll: line 1", "X-PER")),
    "I first": ({"train_conll": "Anna\tO\nLee\tI-PER\n"}, ("line 2", "I-PER")),
    "no tag": ({"train_conll": "Anna\n"}, ("line 1", "Anna")),
    "empty validation": ({"train_json": GOOD, "validation_json": []}, ("validation.json", "no documents")),
    "no entity in validation": (
        {"train_json": GOOD, "dev_json": [doc("nothing here")]},
        ("dev.json: the validation split holds no entity",),
    ),
    "label only in test": (
        {"train_json": GOOD, "test_json": [doc("Rome", [0, 4, "LOC"])]},
        ("test.json", "'LOC'", "schema"),
    ),
    "one document": ({"train_json": GOOD[:1]}, ("too few",)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_one_clear_line(tmp_path: Path, name: str):
    files, words = BAD[name]
    refused(dataset(tmp_path, "--data", str(folder(tmp_path, **files))), *words)
    assert not (tmp_path / "dataset" / "manifest.json").exists()


def test_bad_arguments_are_one_clear_line(tmp_path: Path):
    refused(dataset(tmp_path, "--data", str(tmp_path / "nowhere")), "nowhere", "does not exist")
    refused(dataset(tmp_path, "--size", "huge"), "huge", "tiny, small, full")
    data = folder(tmp_path, train_json=GOOD)
    refused(dataset(tmp_path, "--data", str(data), "--entity-types", '["PLACE"]'), "'PERSON'", "PLACE", "train.json")
    refused(dataset(tmp_path, "--data", str(data), "--entity-types", "PLACE"), "--entity-types")
    (data / "train.json").write_bytes(b"\xff\xfe\x00")
    refused(dataset(tmp_path, "--data", str(data)), "train.json", "UTF-8")

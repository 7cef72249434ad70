"""The benchmarker on small ONNX models made here: real onnxruntime, real worker processes."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from components.benchmarker.bundle import read_candidates
from components.benchmarker.process import Process
from components.benchmarker.sample import percentiles
from components.benchmarker.settings import parse_settings
from components.kfp_io import StepError

ROOT = Path(__file__).parents[3]
WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "bob": 4, "runs": 5}
LABELS = ["O", "B-N", "I-N"]


def tagging_model(path: Path, *, wrong: bool, batch: str | int = "b") -> None:
    """A model whose logits depend on the token alone: `bob` is an entity (or, if wrong, `runs` is)."""
    table = np.tile(np.array([[1, 0, 0]], dtype=np.float32), (len(WORDS), 1))
    table[WORDS["runs" if wrong else "bob"]] = [0, 5, 0]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["logits"])]
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, [batch, "t"]) for n in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, "t", 3])
    graph = helper.make_graph(nodes, "g", inputs, [output], [numpy_helper.from_array(table, "table")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))


def bundle(folder: Path, backbone: str, **variants: bool) -> Path:
    """A bundle with variants given as name=wrong."""
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel(WORDS, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, wrong in variants.items():
        tagging_model(folder / f"model.{name}.onnx", wrong=wrong)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    manifest = {
        "schema_version": 1, "backbone": backbone, "labels": LABELS, "entity_types": ["N"], "hyperparameters": {},
        "window": {"max_tokens": 8, "stride": 2, "cls_id": 1, "sep_id": 2, "pad_id": 3}, "files": files,
        "variants": {n: {"file": f"model.{n}.onnx", "sha256": files[f"model.{n}.onnx"]} for n in variants},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "dataset")


def write_documents(folder: Path) -> Path:
    """Six documents a split, of 2 to 12 words, each second of which is an entity."""
    folder.mkdir()
    for split in ("validation", "test"):
        lines = []
        for number in range(6):
            text = " ".join(["runs", "bob"] * (number + 1))
            spans = [[i, i + 3, "N"] for i in range(len(text)) if text.startswith("bob", i)]
            lines.append(json.dumps({"id": f"{split}-{number}", "text": text, "spans": spans}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run(
    tmp_path: Path, bundles: list[Path], dataset: Path, settings: dict[str, Any], *more: str
) -> subprocess.CompletedProcess[str]:
    given = {"inputs": {"artifacts": {"bundles": {"artifacts": [{"name": "b", "uri": str(path)} for path in bundles]}}}}
    command = [sys.executable, "-m", "components.benchmarker", "--executor-input", json.dumps(given)]
    command += [
        "--dataset",
        str(dataset),
        "--settings",
        json.dumps(settings),
        "--benchmark",
        str(tmp_path / "out.json"),
        *more,
    ]
    command += ["--executor-output", str(tmp_path / "eo.json")]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    )


QUICK = {"rounds": 2, "requests": 15, "warmup": 1, "cold_starts": 1, "offline_batch": 0}


def test_every_variant_is_timed_and_scored_by_its_own_file(tmp_path: Path, dataset: Path):
    bundles = [bundle(tmp_path / "b1", "one", fp32=False, int8=True), bundle(tmp_path / "b2", "two", fp32=False)]
    done = run(tmp_path, bundles, dataset, QUICK)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out.json").read_text())
    entries = {(entry["backbone"], entry["variant"]): entry for entry in document["candidates"]}
    assert set(entries) == {("one", "fp32"), ("one", "int8"), ("two", "fp32")}
    assert entries["one", "fp32"]["scores"]["test"]["macro_f1"] == 1
    assert entries["one", "fp32"]["scores"]["test"]["interval"] == [1, 1]
    assert entries["one", "int8"]["scores"]["validation"]["macro_f1"] == 0
    assert entries["one", "fp32"]["scores"]["test"]["documents"] == {
        "N": {"tp": [1, 2, 3, 4, 5, 6], "fp": [0] * 6, "fn": [0] * 6}
    }
    right_number_wrong_words = {"tp": [0] * 6, "fp": [1, 2, 3, 4, 5, 6], "fn": [1, 2, 3, 4, 5, 6]}
    assert entries["one", "int8"]["scores"]["validation"]["documents"] == {"N": right_number_wrong_words}
    for entry in entries.values():
        latency = entry["latency_ms"]
        assert latency["requests"] == 30 and latency["p50"] > 0 and latency["p90"] is None
        assert entry["throughput"]["documents_per_second"] == pytest.approx(1000 / latency["mean"])
        assert entry["throughput"]["characters_per_second"] > entry["throughput"]["documents_per_second"]
    assert document["machine"]["threads"] == 1
    metrics = json.loads((tmp_path / "eo.json").read_text())["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert metrics["one_fp32_validation_macro_f1"] == 1


def test_each_variant_has_a_process_and_turns_of_its_own(tmp_path: Path, dataset: Path):
    """Turns never overlap, every round has all variants, and no variant always follows the same other."""
    bundles = [bundle(tmp_path / "b1", "one", fp32=False, int8=True), bundle(tmp_path / "b2", "two", fp32=False)]
    assert run(tmp_path, bundles, dataset, QUICK | {"rounds": 3}).returncode == 0
    entries = json.loads((tmp_path / "out.json").read_text())["candidates"]
    assert len({entry["process"] for entry in entries}) == 3
    turns = sorted(
        (turn["start"], turn["end"], number) for number, entry in enumerate(entries) for turn in entry["turns"]
    )
    assert turns[0][0] == 0
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(turns))
    order = [number for _, _, number in turns]
    rounds = [order[0:3], order[3:6], order[6:9]]
    assert all(sorted(one) == [0, 1, 2] for one in rounds)
    assert len({one[0] for one in rounds}) > 1


def test_the_default_settings_carry_every_percentile():
    settings = parse_settings({})
    assert None not in percentiles([1.0] * settings.rounds * settings.requests).values()


def test_a_tampered_file_is_refused_before_anything_is_timed(tmp_path: Path, dataset: Path):
    folder = bundle(tmp_path / "b", "one", fp32=False)
    tagging_model(folder / "model.fp32.onnx", wrong=True)
    done = run(tmp_path, [folder], dataset, QUICK)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "model.fp32.onnx" in done.stderr and "manifest" in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_two_bundles_of_one_backbone_and_none_at_all_are_refused(tmp_path: Path, dataset: Path):
    bundles = [bundle(tmp_path / "b1", "same", fp32=False), bundle(tmp_path / "b2", "same", fp32=False)]
    done = run(tmp_path, bundles, dataset, QUICK)
    assert (done.returncode, "'same'" in done.stderr) == (2, True)
    done = run(tmp_path, [], dataset, QUICK)
    assert (done.returncode, "no bundle" in done.stderr) == (2, True)


def seal(folder: Path) -> None:
    """Make the manifest tell the truth about the model file again."""
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256((folder / "model.fp32.onnx").read_bytes()).hexdigest()
    manifest["files"]["model.fp32.onnx"] = manifest["variants"]["fp32"]["sha256"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_windows_go_one_by_one_so_that_no_answer_depends_on_its_neighbours(tmp_path: Path, dataset: Path):
    folder = bundle(tmp_path / "b", "one", fp32=False)
    tagging_model(folder / "model.fp32.onnx", wrong=False, batch=1)  # onnxruntime refuses any larger batch
    seal(folder)
    done = run(tmp_path, [folder], dataset, QUICK)
    assert done.returncode == 0, done.stderr
    entry = json.loads((tmp_path / "out.json").read_text())["candidates"][0]
    assert entry["scores"]["test"]["macro_f1"] == 1  # of documents of up to 12 tokens in windows of 6


@pytest.mark.parametrize("change", ["unlisted", "other hash"])
def test_a_variant_whose_hash_is_not_among_the_files_is_refused(tmp_path: Path, dataset: Path, change: str):
    folder = bundle(tmp_path / "b", "one", fp32=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    if change == "unlisted":
        del manifest["files"]["model.fp32.onnx"]
    else:
        manifest["variants"]["fp32"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = run(tmp_path, [folder], dataset, QUICK)
    assert done.returncode == 2
    assert "variant 'fp32'" in done.stderr and "model.fp32.onnx" in done.stderr


def test_a_bundle_is_decoded_with_its_transitions_and_odd_ones_are_refused(tmp_path: Path, dataset: Path):
    folder = bundle(tmp_path / "b", "one", fp32=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    never = [
        [0, -100, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]  # an entity follows only an entity: then every word is one, and half of them are right
    for transitions, found in ((None, 1), ([[0] * 3] * 3, 1), (never, 2 / 3)):
        (folder / "manifest.json").write_text(json.dumps({**manifest, "transitions": transitions}))
        done = run(tmp_path, [folder], dataset, QUICK)
        assert done.returncode == 0, done.stderr
        (entry,) = json.loads((tmp_path / "out.json").read_text())["candidates"]
        assert entry["scores"]["test"]["macro_f1"] == pytest.approx(found)
    for odd in ([[0] * 3] * 2, [[0] * 3, 3, [0] * 3], [[0, 0, "0"]] * 3, [[0, 0, math.inf]] * 3, {}):
        (folder / "manifest.json").write_text(json.dumps({**manifest, "transitions": odd}))
        with pytest.raises(StepError, match="transitions are not a finite number for each pair of its 3 labels"):
            read_candidates([folder])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_empty_split_is_named_in_one_line(tmp_path: Path, dataset: Path, split: str):
    (dataset / f"{split}.jsonl").write_text("")
    done = run(tmp_path, [bundle(tmp_path / "b", "one", fp32=False)], dataset, QUICK)
    assert done.returncode == 2
    assert f"{split} split is empty" in done.stderr and "Traceback" not in done.stderr


def test_a_worker_killed_between_two_commands_is_an_error_with_a_name(tmp_path: Path, dataset: Path):
    process = Process(read_candidates([bundle(tmp_path / "b", "one", fp32=False)])[0], dataset, 1)
    with pytest.raises(StepError, match="one fp32: its worker was ended by signal 9"), process:
        process._child.kill()
        process._child.wait()
        process.ask("score")


def bomb(path: Path) -> None:
    """A valid model of 200 bytes whose output onnxruntime works out while it loads the file: 4 TiB."""
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 20], dtype=np.int64), "shape")
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "t"]) for n in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1 << 20, 1 << 20])
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["logits"])], "g", inputs, [output], [shape]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))


@pytest.mark.parametrize("content", [b"no model", None])
def test_a_file_that_cannot_be_loaded_is_an_error_with_a_name(tmp_path: Path, dataset: Path, content: bytes | None):
    folder = bundle(tmp_path / "b", "one", fp32=False)
    if content is None:
        bomb(folder / "model.fp32.onnx")
    else:
        (folder / "model.fp32.onnx").write_bytes(content)
    seal(folder)
    done = run(tmp_path, [folder], dataset, QUICK)
    assert done.returncode == 2
    assert "error: one fp32: its model cannot be run: " in done.stderr and "Traceback" not in done.stderr


def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path, dataset: Path):
    folder = bundle(tmp_path / "b", "one", fp32=False)
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    done = run(tmp_path, [folder], dataset, QUICK)
    assert done.returncode == 2
    assert "tokenizer.json: is a link" in done.stderr


@pytest.mark.parametrize(
    ("values", "word"), [({"round": 1}, "rounds"), ({"rounds": 0}, "at least 1"), ({"requests": "x"}, "requests")]
)
def test_wrong_settings_are_named(values, word):
    with pytest.raises(StepError) as error:
        parse_settings(values)
    assert word in error.value.message + str(error.value.hint)

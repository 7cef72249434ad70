"""The converter in its image, on a `tiny` model that was trained a little."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.benchmarker.runtime import onnx_infer
from components.converter.builds import SMALL
from components.ner.formats import load_split
from components.ner.predict import Tagger, WindowSettings

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def model(run_step, few_documents, tiny_backbone, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("model")
    argv = ["--dataset", "/dataset", "--backbone", "/backbone", "--model", "/out/model"]
    argv += ["--training", json.dumps({"epochs": 3, "max_tokens": 64, "stride": 16, "crf": True})]
    argv += ["--hyperparameters", json.dumps({"learning_rate": 0.01, "batch_size": 2})]
    run_step("trainer", argv, {out: "/out", few_documents: "/dataset", tiny_backbone: "/backbone"}).ok()
    return out / "model"


def convert(run_step, out: Path, model: Path, dataset: Path, gate: dict, conversion: dict | None = None):
    argv = ["--model", "/model", "--dataset", "/dataset", "--gate", json.dumps(gate), "--bundle", "/out/bundle"]
    argv += ["--conversion", json.dumps(TWO if conversion is None else conversion)]
    argv += ["--report", "/out/report.md", "--executor-output", "/out/executor_output.json"]
    return run_step("converter", argv, {out: "/out", model: "/model", dataset: "/dataset"})


LENIENT = {"int8_agreement": 0, "int8_macro_f1": 1}
TWO = {"builds": ["dynamo-18-none-fp32", "dynamo-18-none-int8"]}


@pytest.fixture(scope="module")
def converted(run_step, model, few_documents, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    names = [*SMALL, "torchscript-18-attention-int8_matrix", "dynamo-23-attention-int8"]
    convert(run_step, out, model, few_documents, LENIENT, {"builds": names}).ok()
    return out


def test_every_build_is_in_the_table_and_the_fastest_in_the_bundle(converted: Path):
    manifest = json.loads((converted / "bundle" / "manifest.json").read_text())
    rows = {row["name"]: row for row in manifest["builds"]}
    assert len(rows) == 7 and all(row["measured"] or row["left_out"] for row in rows.values())
    assert {name for name in SMALL if rows[name]["left_out"]} == set()
    report = (converted / "report.md").read_text()
    times: dict[str, list[float]] = {"fp32": [], "int8": []}
    for line in report.splitlines()[6:]:
        _, name, variant, *_, time, verdict, _ = (cell.strip() for cell in line.split("|"))
        if verdict == "**chosen**":
            built = manifest["variants"][variant]["build"]
            assert name == "-".join(str(built[key]) for key in ("exporter", "opset", "fusion", "quantisation"))
            times[variant].insert(0, float(time))
        elif time:
            times[variant].append(float(time))
    for chosen, *others in times.values():
        assert (
            chosen > 0 and others
        )  # that a clearly faster one is chosen is shown in test_builds.py: here a stall may decide
    assert not (converted / "bundle" / "builds").exists()


def test_the_bundle_is_whole_and_says_what_is_in_it(converted: Path, model: Path):
    manifest = json.loads((converted / "bundle" / "manifest.json").read_text())
    assert manifest["transitions"] == json.loads((model / "ner.json").read_text())["transitions"] != None  # noqa: E711
    assert manifest["backbone"] == "tiny"
    assert set(manifest["variants"]) == {"fp32", "int8"}
    names = {path.name for path in (converted / "bundle").iterdir()}
    assert names == {*manifest["files"], "manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((converted / "bundle" / name).read_bytes()).hexdigest() == digest
    assert manifest["gate"]["measured"]["fp32"]["logits"] < 1e-3
    assert manifest["gate"]["measured"]["fp32"]["agreement"] == 1
    assert manifest["hyperparameters"]["learning_rate"] == 0.01
    int8, fp32 = ((converted / "bundle" / f"model.{name}.onnx").stat().st_size for name in ("int8", "fp32"))
    assert int8 < fp32 / 2
    assert "passed" in (converted / "report.md").read_text()


@pytest.mark.parametrize(("variant", "field"), [("fp32", True), ("int8", True), ("fp32", False)])
def test_the_example_finds_what_the_tagger_finds_also_in_long_documents(
    converted: Path, few_documents: Path, tmp_path: Path, variant: str, field: bool
):
    from tokenizers import Tokenizer

    bundle = shutil.copytree(converted / "bundle", tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    if not field:
        manifest["transitions"] = None
        (bundle / "manifest.json").write_text(json.dumps(manifest))
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    infer = onnx_infer(bundle / f"model.{variant}.onnx", 1)
    window = WindowSettings.from_json(manifest["window"])
    tagger = Tagger(tokenizer, manifest["labels"], window, infer, batch=1, transitions=manifest["transitions"])
    script = tmp_path / "ask.py"
    script.write_text(
        "import json, sys\nsys.path.insert(0, sys.argv[1])\nfrom example import Model\nmodel = Model(sys.argv[2])\n"
        "print(json.dumps([model.entities(text) for text in json.load(sys.stdin)]))\n"
    )
    texts = [document.text for document in load_split(few_documents, "test")]
    texts += [" ".join(texts), "", "   "]
    environment = {"PATH": os.environ["PATH"]}  # no PYTHONPATH: the bundle needs nothing of this project
    done = subprocess.run(
        [sys.executable, str(script), str(bundle), variant],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = [[tuple(entity[:3]) for entity in entities] for entities in json.loads(done.stdout)]
    assert found == [[tuple(span) for span in tagger.tag(text)] for text in texts]
    assert any(found)


def test_int8_that_misses_the_gate_is_left_out_and_reported(run_step, model, few_documents, tmp_path):
    completed = convert(run_step, tmp_path, model, few_documents, {"int8_agreement": 1.1}).ok()
    assert "telemetry" not in completed.stdout + completed.stderr, "onnxruntime would report to its maker"
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert set(manifest["variants"]) == {"fp32"}
    assert "110.00% must" in manifest["rejected"]["int8"]
    assert not (tmp_path / "bundle" / "model.int8.onnx").exists()
    assert "left out" in completed.stdout and "left out" in (tmp_path / "report.md").read_text()


def test_fp32_that_misses_the_gate_fails_the_step(run_step, model, few_documents, tmp_path):
    completed = convert(run_step, tmp_path, model, few_documents, {"fp32_logits": 0})
    assert completed.code == 2
    assert completed.stderr.startswith("error: the FP32 export does not agree") and "0 is allowed" in completed.stderr
    assert not (tmp_path / "bundle" / "manifest.json").exists()


def test_a_model_that_lacks_weights_is_refused_and_not_filled_at_random(run_step, model, few_documents, tmp_path):
    cut = shutil.copytree(model, tmp_path / "model")
    raw = (model / "model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    # A tensor under another name is a missing one and an unexpected one; the data may stay as it is.
    header = raw[8 : 8 + size].replace(b'"classifier.weight"', b'"classifier.wEight"')
    (cut / "model.safetensors").write_bytes(raw[:8] + header + raw[8 + size :])
    out = tmp_path / "out"
    out.mkdir()
    completed = convert(run_step, out, cut, few_documents, LENIENT)
    assert completed.code == 2
    assert "lacks 1 weights, classifier.weight" in completed.stderr


def test_broken_weights_are_an_error_in_one_line(run_step, model, few_documents, tmp_path):
    broken = shutil.copytree(model, tmp_path / "model")
    (broken / "model.safetensors").write_bytes(b"no weights")
    out = tmp_path / "out"
    out.mkdir()
    completed = convert(run_step, out, broken, few_documents, LENIENT)
    assert completed.code == 2
    assert "cannot be loaded" in completed.stderr and "Traceback" not in completed.stderr


def test_an_unknown_tolerance_gets_a_suggestion(run_step, model, few_documents, tmp_path):
    completed = convert(run_step, tmp_path, model, few_documents, {"int8_agrement": 1})
    assert completed.code == 2
    assert "int8_agrement" in completed.stderr and "did you mean 'int8_agreement'?" in completed.stderr

"""The backbone step in its image, without a network."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine


def tensors(path: Path) -> dict[str, tuple[str, list[int], str]]:
    """Return name -> (dtype, shape, SHA-256 of the bytes) of a safetensors file, read by its written format."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    body = raw[8 + length :]
    return {
        name: (facts["dtype"], facts["shape"], hashlib.sha256(body[slice(*facts["data_offsets"])]).hexdigest())
        for name, facts in header.items()
    }


def materialise(run_step, out, name, *more, mounts=None):
    return run_step(
        "backbone", ["materialise", "--name", name, *more, "--model", "/out/model"], {out: "/out", **(mounts or {})}
    )


@pytest.fixture(scope="session")
def minilm(run_step, tmp_path_factory):
    out = tmp_path_factory.mktemp("minilm")
    materialise(run_step, out, "minilm").ok()
    return out / "model"


def test_minilm_is_whole_and_its_tokenizer_truncates_nothing(minilm):
    manifest = json.loads((minilm / "backbone.json").read_text())
    assert (manifest["name"], manifest["source"], manifest["license"]) == ("minilm", "package", "Apache-2.0")
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((minilm / name).read_bytes()).hexdigest() == digest
    assert set(manifest["files"]) == {"config.json", "model.safetensors", "tokenizer.json"}
    tokenizer = json.loads((minilm / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None
    assert any(name.startswith("encoder.layer.5.") for name in tensors(minilm / "model.safetensors"))


def test_minilm_3_is_the_first_three_layers_bit_for_bit(run_step, minilm, tmp_path):
    materialise(run_step, tmp_path, "minilm-3").ok()
    whole, part = tensors(minilm / "model.safetensors"), tensors(tmp_path / "model" / "model.safetensors")
    dropped = set(whole) - set(part)
    assert dropped == {name for name in whole if name.startswith(tuple(f"encoder.layer.{n}." for n in (3, 4, 5)))}
    assert dropped
    assert part == {name: whole[name] for name in part}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["num_hidden_layers"] == 3
    assert (tmp_path / "model" / "model.safetensors").stat().st_mode & 0o044 == 0o044


def test_tiny_has_no_weights_and_its_seed_in_the_manifest(tiny_backbone):
    assert not (tiny_backbone / "model.safetensors").exists()
    manifest = json.loads((tiny_backbone / "backbone.json").read_text())
    assert (manifest["source"], manifest["seed"]) == ("random", 13)
    assert json.loads((tiny_backbone / "config.json").read_text())["hidden_size"] == 64


def refused(completed, *words):
    assert completed.code == 2
    assert completed.stderr.startswith("error: ")
    assert "Traceback" not in completed.stderr
    for word in words:
        assert word in completed.stderr


def own_folder(folder: Path, source: Path, **config) -> Path:
    """Lay out a user's backbone folder like `source`, with `config` on top of its configuration, without weights."""
    folder.mkdir()
    settings = json.loads((source / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    return folder


def test_a_folder_with_pickle_weights_only_is_refused(run_step, tiny_backbone, tmp_path):
    own = own_folder(tmp_path / "own", tiny_backbone)
    (own / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    out = tmp_path / "out"
    out.mkdir()
    completed = materialise(run_step, out, "local", "--local", "/own", mounts={own: "/own"})
    refused(completed, "pickle", "pytorch_model.bin", "safetensors")
    assert not list((out / "model").iterdir())


def test_a_folder_that_needs_its_own_code_is_refused(run_step, minilm, tmp_path):
    own = own_folder(tmp_path / "own", minilm, auto_map={"AutoModel": "modeling.Mine"})
    (own / "model.safetensors").write_bytes((minilm / "model.safetensors").read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    refused(materialise(run_step, out, "local", "--local", "/own", mounts={own: "/own"}), "custom code", "auto_map")


def test_a_local_folder_is_taken_without_its_pickles(run_step, minilm, tmp_path):
    own = own_folder(tmp_path / "own", minilm)
    (own / "model.safetensors").write_bytes((minilm / "model.safetensors").read_bytes())
    (own / "training_args.bin").write_bytes(b"\x80\x04.")
    out = tmp_path / "out"
    out.mkdir()
    materialise(run_step, out, "local", "--local", "/own", mounts={own: "/own"}).ok()
    files = {path.name for path in (out / "model").iterdir()}
    assert files == {"backbone.json", "config.json", "model.safetensors", "tokenizer.json"}
    assert json.loads((out / "model" / "backbone.json").read_text())["source"] == "local"


def test_a_fetched_backbone_is_found_by_its_manifest_not_by_its_place(run_step, minilm, tmp_path):
    fetched = {}
    for index, name in enumerate(["distilroberta-base", "distilbert-base-uncased"]):
        folder = own_folder(tmp_path / f"hub{index}", minilm)
        (folder / "model.safetensors").write_bytes((minilm / "model.safetensors").read_bytes())
        manifest = {
            "schema_version": 1,
            "name": name,
            "revision": f"c{index}",
            "source": "hub",
            "license": None,
            "files": {},
        }
        (folder / "backbone.json").write_text(json.dumps(manifest))
        fetched[folder] = f"/fetched/{index}"
    artifacts = [{"name": "model", "uri": target} for target in fetched.values()]
    given = json.dumps({"inputs": {"artifacts": {"fetched": {"artifacts": artifacts}}}})
    gathered = tmp_path / "gathered"
    gathered.mkdir()
    argv = ["gather", "--executor-input", given, "--model", "/out/model"]
    run_step("backbone", argv, {gathered: "/out", **fetched}).ok()
    out = tmp_path / "out"
    out.mkdir()
    arguments = ("--fetched", "/gathered")
    fetched = {gathered / "model": "/gathered"}
    materialise(run_step, out, "distilbert-base-uncased", *arguments, mounts=fetched).ok()
    manifest = json.loads((out / "model" / "backbone.json").read_text())
    assert (manifest["name"], manifest["revision"]) == ("distilbert-base-uncased", "c1")
    missing = materialise(run_step, out, "microsoft/deberta-v3-base", *arguments, mounts=fetched)
    refused(missing, "was not fetched", "distilroberta-base")


def test_an_unknown_name_gets_a_suggestion(run_step, tmp_path):
    refused(materialise(run_step, tmp_path, "minlm"), "unknown backbone 'minlm'", "did you mean 'minilm'?")


def test_a_fetch_without_a_network_is_one_clear_line(run_step, tmp_path):
    argv = ["fetch", "--name", "distilbert-base-uncased", "--model", "/out/model"]
    completed = run_step("backbone", argv, {tmp_path: "/out"})
    refused(completed, "cannot fetch 'distilbert-base-uncased'", "network")
    assert len(completed.stderr.splitlines()) == 2
    assert not list((tmp_path / "model").iterdir())

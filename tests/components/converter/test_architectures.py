"""The families that Hub backbones come from, each trained, exported and judged: BERT is not the only shape of a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.components.converter.test_step import LENIENT, convert

pytestmark = pytest.mark.engine

FAMILIES = ("distilbert", "roberta", "deberta-v2", "modernbert")


@pytest.fixture(scope="module")
def backbones(run_script, few_documents, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("backbones")
    probe = Path(__file__).parent / "probe_architectures.py"
    run_script("trainer", probe, FAMILIES, {few_documents: "/dataset", out: "/out"}).ok()
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_learns_and_its_export_agrees(run_step, few_documents, backbones, tmp_path, family):
    argv = ["--dataset", "/dataset", "--backbone", "/backbone", "--model", "/out/model"]
    argv += ["--training", json.dumps({"epochs": 3, "max_tokens": 64, "stride": 16})]
    argv += ["--hyperparameters", json.dumps({"learning_rate": 0.01, "batch_size": 2, "dropout": 0.05})]
    mounts = {tmp_path: "/out", few_documents: "/dataset", backbones / family: "/backbone"}
    run_step("trainer", argv, mounts).ok()
    facts = json.loads((tmp_path / "model" / "ner.json").read_text())
    assert facts["scores"]["validation"]["macro_f1"] > 0.1, "nothing was learnt, so agreement says nothing"
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert 0.05 in config.values(), "no dropout of this family was set"
    out = tmp_path / "converted"
    out.mkdir()
    convert(run_step, out, tmp_path / "model", few_documents, LENIENT, {}).ok()
    manifest = json.loads((out / "bundle" / "manifest.json").read_text())
    assert set(manifest["variants"]) == {"fp32", "int8"}
    assert manifest["gate"]["measured"]["fp32"]["agreement"] == 1
    assert manifest["gate"]["measured"]["fp32"]["logits"] < 1e-3

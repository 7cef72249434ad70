"""Names of backbones, as the host checks them before anything starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from components.backbone import registry


@pytest.mark.parametrize("name", ["minilm", "minilm-3", "tiny", "local"])
def test_builtin_names_need_no_download(name):
    assert registry.is_builtin(name)
    assert not registry.looks_like_hub_name(name)


@pytest.mark.parametrize(
    "name", ["distilbert-base-uncased", "distilroberta-base", "microsoft/deberta-v3-base", "a/b.c_d"]
)
def test_hub_names(name):
    assert registry.looks_like_hub_name(name)
    assert not registry.is_builtin(name)


@pytest.mark.parametrize("name", ["minlm", "", "a/b/c", "../etc", "a/..", "/abs", "a b/c", "-x/y", "bert-base-uncasd"])
def test_anything_else_is_neither(name):
    assert not registry.is_builtin(name)
    assert not registry.looks_like_hub_name(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("minlm", "minilm"),
        ("minilm3", "minilm-3"),
        ("distilbert-base-uncasd", "distilbert-base-uncased"),
        ("zzzzz", None),
    ],
)
def test_a_typo_gets_a_suggestion(name, meant):
    assert registry.suggest(name) == meant
    assert "built in: minilm" in registry.hint_for(name)


def test_the_registry_needs_the_standard_library_alone():
    code = "import sys, components.backbone.registry as r; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("numpy", "safetensors", "huggingface_hub", "torch", "kfp"):
        assert f"'{heavy}'" not in loaded

"""Experiment files: every mistake is one line that names the key and the value, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.experiment import DEFAULT, ExperimentError, load_experiment, read_yaml, to_arguments


def arguments(**values: Any) -> dict[str, Any]:
    return to_arguments(load_experiment({key.replace("__", "."): value for key, value in values.items()}))


@pytest.mark.parametrize("path", sorted(DEFAULT.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_is_valid(path: Path):
    assert to_arguments(load_experiment(read_yaml(path)))["backbones"]


def test_numbers_are_read_as_people_write_them(tmp_path: Path):
    path = tmp_path / "e.yaml"
    path.write_text(
        "selection: {tolerance: 2e-5}\nsearch_space:\n  learning_rate: {type: loguniform, min: 1e-5, max: 5E-5}\n"
    )
    found = to_arguments(load_experiment(read_yaml(path)))
    assert found["tolerance"] == 2e-5
    assert found["search_space"] == {"learning_rate": {"type": "loguniform", "min": 1e-5, "max": 5e-5}}
    assert arguments(selection__tolerance="2e-5")["tolerance"] == 2e-5


def test_a_part_of_a_section_keeps_the_rest_and_dots_reach_inside():
    found = arguments(training={"epochs": 9}, search__trials="7")
    assert (found["training"]["epochs"], found["training"]["max_tokens"], found["trials"]) == (9, 256, 7)


def test_smoke_is_the_same_experiment_made_short():
    found = arguments(stage="smoke")
    assert (found["trials"], found["training"]["epochs"], found["search_training"]["epochs"]) == (1, 1, 1)


def test_an_own_backbone_folder_becomes_an_artifact(tmp_path: Path):
    found = arguments(backbones=["minilm", str(tmp_path)])
    assert found["backbones"] == ["minilm", "local"]
    assert found["local_backbone"] == str(tmp_path)


WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"backbonse": ["tiny"]}, ("'backbonse'", "did you mean 'backbones'?")),
    ({"search": {"trial": 3}}, ("search.trial", "did you mean 'trials'?")),
    ({"search__trials": "many"}, ("search.trials", "'many'")),
    ({"search__trials": "0"}, ("search.trials", "0")),
    ({"seed": "true"}, ("seed", "True")),
    ({"stage": "fast"}, ("stage", "'fast'")),
    ({"backbones": ["minlm"]}, ("'minlm'", "did you mean 'minilm'?")),
    ({"backbones": ["minilm", "minilm"]}, ("'minilm'", "twice")),
    ({"backbones": []}, ("backbones",)),
    ({"backbones": ["/no/such/folder"]}, ("/no/such/folder", "does not exist")),
    ({"data": "/no/such/data"}, ("data", "/no/such/data", "does not exist")),
    ({"search_space": {"learning_rte": {"type": "uniform", "min": 0, "max": 1}}}, ("learning_rte", "learning_rate")),
    ({"search_space": {"dropout": {"type": "unifrom", "min": 0, "max": 1}}}, ("unifrom", "uniform")),
    ({"search_space": {"dropout": {"type": "uniform", "min": 0.5, "max": 0.1}}}, ("dropout", "0.5")),
    ({"training__epoch": "3"}, ("epoch", "epochs")),
    ({"gate__fp32_logit": "1"}, ("fp32_logit", "did you mean 'fp32_logits'?")),
    ({"benchmark__round": "1"}, ("round", "rounds")),
    ({"validation_fraction": "1.5"}, ("validation_fraction", "1.5")),
]


@pytest.mark.parametrize(
    ("values", "words"), WRONG, ids=lambda value: "-".join(value) if isinstance(value, dict) else ""
)
def test_a_mistake_is_one_line_with_the_key_and_the_value(values: dict[str, Any], words: tuple[str, ...]):
    with pytest.raises(ExperimentError) as error:
        arguments(**values)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_hub_backbone_without_a_network_is_known_before_anything_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExperimentError, match=r"distilbert-base-uncased.*127\.0\.0\.1:9 does not answer"):
        arguments(backbones=["distilbert-base-uncased"])

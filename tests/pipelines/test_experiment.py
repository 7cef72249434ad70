"""Experiment files: every mistake is one line that names the key and the value, before anything starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


def test_what_the_user_says_wins_over_the_stage():
    found = arguments(stage="smoke", search__trials="3", training={"epochs": 4})
    assert (found["trials"], found["training"]["epochs"], found["search_training"]["epochs"]) == (3, 4, 1)


def test_dots_reach_any_depth_and_a_commit_is_text():
    found = arguments(search_space__learning_rate__min="1e-5", revision="12e45678")
    assert found["search_space"]["learning_rate"] == {"type": "loguniform", "min": 1e-5, "max": 1.5e-3}
    assert set(found["search_space"]) == {"learning_rate", "batch_size", "dropout", "weight_decay"}
    assert found["revision"] == "12e45678"


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(ExperimentError, match="1 is no key"):
        load_experiment({1: 2})  # type: ignore[dict-item]


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


class _Hub(BaseHTTPRequestHandler):
    """A Hub in which only `a/public` exists, at revision refs/pr/3; `a/broken` is out of order."""

    def do_HEAD(self) -> None:
        known = {"/a/public/resolve/refs%2Fpr%2F3/config.json": 200, "/a/broken/resolve/refs%2Fpr%2F3/config.json": 503}
        self.send_response(known.get(self.path, 401))
        self.end_headers()

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_every_hub_backbone_is_looked_up_with_its_revision():
    assert arguments(backbones=["a/public"], revision="refs/pr/3")["hub_backbones"] == ["a/public"]
    for name, words in (("a/missing", "no public model 'a/missing'"), ("a/broken", "'a/broken'.*503")):
        with pytest.raises(ExperimentError, match=words):
            arguments(backbones=["a/public", name], revision="refs/pr/3")
    with pytest.raises(ExperimentError, match="no public model 'a/public' with revision 'main'"):
        arguments(backbones=["a/public"])

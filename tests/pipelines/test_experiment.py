"""Experiment files: every mistake is one line that names the key and the value, before anything starts."""

from __future__ import annotations

import json
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


def test_workers_are_a_list_for_the_loop_and_share_the_cpus():
    assert arguments()["workers"] == [] and arguments()["search"] == {}
    found = arguments(workers="4", cpus="8", search__folds="5", search__pruning="{warmup: 1}")
    assert (found["workers"], found["worker_cpus"], found["cpus"]) == ([0, 1, 2, 3], 2, 8)
    assert found["search"] == {"folds": 5, "pruning": {"warmup": 1}}
    assert arguments(workers=4, cpus=2)["worker_cpus"] == 1


def test_a_new_study_has_a_name_that_no_other_has_and_by_which_it_goes_on():
    first, second = (arguments(search__mode="new")["search"] for _ in range(2))
    assert set(first) == {"study"} and first != second
    assert arguments(search__study=first["study"])["search"] == first
    assert arguments(search__mode="reuse")["search"] == {"mode": "reuse"}


def test_smoke_is_the_same_experiment_made_short():
    found = arguments(stage="smoke")
    assert (found["trials"], found["training"]["epochs"], found["search_training"]["epochs"]) == (1, 1, 1)


def test_what_the_user_says_wins_over_the_stage():
    found = arguments(stage="smoke", search__trials="3", training={"epochs": 4})
    assert (found["trials"], found["training"]["epochs"], found["search_training"]["epochs"]) == (3, 4, 1)


def test_dots_reach_any_depth_and_a_commit_is_text():
    found = arguments(search_space__learning_rate__min="1e-5")
    assert found["search_space"]["learning_rate"] == {"type": "loguniform", "min": 1e-5, "max": 5e-4}
    assert set(found["search_space"]) == {"learning_rate", "batch_size", "dropout", "weight_decay"}
    assert load_experiment({"revision": "12e45678"}).revision == "12e45678"


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


COMMIT = "5b1c" * 10
FILES = ["config.json", "tokenizer.json", "model.safetensors"]
MODELS: dict[str, Any] = {
    "/api/models/a/public/revision/refs%2Fpr%2F3": {"sha": COMMIT, "siblings": FILES},
    "/api/models/a/public/revision/main": {"sha": COMMIT[::-1], "siblings": FILES},
    "/api/models/a/pickle/revision/main": {"sha": COMMIT, "siblings": ["config.json", "pytorch_model.bin"]},
    "/api/models/a/slow/revision/main": {"sha": COMMIT, "siblings": ["config.json", "vocab.txt", "model.safetensors"]},
    "/api/models/a/gated/revision/main": {"sha": COMMIT, "siblings": FILES, "gated": "manual"},
    "/api/models/a/broken/revision/main": 503,
    "/api/models/a/portal/revision/main": "<html>log in</html>",
}


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = MODELS.get(self.path, 401)
        if isinstance(answer, dict):
            siblings = [{"rfilename": name} for name in answer["siblings"]]
            answer = json.dumps({"id": "x", **answer, "siblings": siblings})
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        if isinstance(answer, str):
            self.wfile.write(answer.encode())

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
def test_a_hub_backbone_is_pinned_to_the_commit_of_its_revision():
    found = arguments(backbones=["minilm", "a/public@refs/pr/3"])
    assert (found["backbones"], found["hub_backbones"]) == (["minilm", "a/public"], [f"a/public@{COMMIT}"])
    assert arguments(backbones=["a/public"])["hub_backbones"] == [f"a/public@{COMMIT[::-1]}"]
    assert arguments(backbones=["a/public"], revision="refs/pr/3")["hub_backbones"] == [f"a/public@{COMMIT}"]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a/missing", "no public model 'a/missing' with revision 'main'"),
        ("a/public@v9", "no public model 'a/public' with revision 'v9'"),
        ("a/broken", "'a/broken'.*503"),
        ("a/pickle", r"a/pickle@main has pickle weights only \(pytorch_model.bin\), which are never loaded"),
        ("a/slow", "a/slow@main has no tokenizer.json"),
        ("a/gated", "'a/gated' is gated"),
        ("a/portal", "does not answer as a Hub does"),
        ("a/public@", "'a/public@' is not known"),
    ],
)
def test_what_is_wrong_with_a_hub_backbone_is_known_before_anything_starts(name: str, words: str):
    with pytest.raises(ExperimentError, match=words) as error:
        arguments(backbones=["a/public", name] if not name.startswith("a/public") else [name])
    assert "\n" not in str(error.value)

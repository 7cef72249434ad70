"""The trainer in its image, on `tiny` and a dozen documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.components.conftest import make_document, write_dataset

pytestmark = pytest.mark.engine

LEARNS = {"learning_rate": 0.01, "batch_size": 2}


def train(run_step, out, dataset, backbone, training=None, hyperparameters=None, more=(), **options):
    argv = ["--dataset", "/dataset", "--backbone", "/backbone", "--model", "/out/model"]
    argv += ["--training", json.dumps({"epochs": 2, "max_tokens": 64, "stride": 16} | (training or {}))]
    argv += ["--hyperparameters", json.dumps(LEARNS if hyperparameters is None else hyperparameters)]
    argv += ["--executor-output", "/out/executor_output.json", *more]
    return run_step("trainer", argv, {out: "/out", dataset: "/dataset", backbone: "/backbone"}, **options)


def refused(completed, *words):
    assert completed.code == 2, completed.stderr
    assert completed.stderr.startswith("error: ")
    assert "Traceback" not in completed.stderr
    for word in words:
        assert word in completed.stderr


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_training_gives_the_same_bytes_and_a_whole_model_folder(
    run_step, few_documents, tiny_backbone, tmp_path
):
    folders = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        told = {"INTERMODAL_TRACKING_FILE": "/out/told.jsonl"}
        more = ["--errors", "/out/pages/errors.html", "--card", "/out/pages/card.md"]
        train(run_step, out, few_documents, tiny_backbone, more=more, env=told).ok()
        folders.append(folder_bytes(out / "model") | folder_bytes(out / "pages"))
    assert folders[0] == folders[1]
    model = {"config.json", "model.safetensors", "tokenizer.json", "ner.json", "history.json"}
    assert set(folders[0]) == model | {"errors.html", "card.md"}
    ner = json.loads(folders[0]["ner.json"])
    assert ner["labels"] == ["O", "B-COMPANY", "I-COMPANY", "B-PERSON", "I-PERSON", "B-SKILL", "I-SKILL"]
    assert ner["backbone"]["name"] == "tiny"
    scored = f"{ner['scores']['validation']['macro_f1']:.4f}"
    assert f"macro-F1 {scored}".encode() in folders[0]["errors.html"]
    assert f"macro-F1 **{scored}**".encode() in folders[0]["card.md"]
    assert ner["window"] == {"max_tokens": 64, "stride": 16, "cls_id": 101, "sep_id": 102, "pad_id": 0}
    assert ner["hyperparameters"]["learning_rate"] == 0.01
    metrics = json.loads((tmp_path / "one" / "executor_output.json").read_text())
    values = metrics["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert values["validation_macro_f1"] == ner["scores"]["validation"]["macro_f1"]
    assert set(values) == {"validation_macro_f1", "validation_micro_f1", "best_epoch", "epochs", "loss"}
    assert metrics == json.loads((tmp_path / "two" / "executor_output.json").read_text()), (
        "no time stands in the metrics"
    )
    told = [json.loads(line) for line in (tmp_path / "two" / "told.jsonl").read_text().splitlines()]
    assert told[0]["params"]["learning_rate"] == 0.01 and told[0]["params"]["epochs"] == 2
    assert [line["step"] for line in told[1:]] == [1, 2]
    assert told[2]["metrics"]["validation_epoch_macro_f1"] == json.loads(folders[0]["history.json"])[1]["macro_f1"]
    assert told[2]["metrics"]["tokens_per_second"] > 0 and told[2]["metrics"]["peak_memory_mib"] > 50


VARIANTS = {
    "base": {},
    "again": {},
    "seed": {"seed": 14},
    "learning_rate": {"hyperparameters": {"learning_rate": 4e-4}},
    "batch_size": {"hyperparameters": {"batch_size": 4}},
    "weight_decay": {"hyperparameters": {"weight_decay": 0.2}},
    "dropout": {"hyperparameters": {"dropout": 0.3}},
    "gradient_accumulation": {"hyperparameters": {"gradient_accumulation": 2, "batch_size": 4}},
    "warmup_ratio": {"hyperparameters": {"warmup_ratio": 0.9}},
    "max_grad_norm": {"hyperparameters": {"max_grad_norm": 0.01}},
    "layer_decay": {"hyperparameters": {"layer_decay": 0.5}},
    "head_rate": {"hyperparameters": {"head_rate": 10}},
    "word_dropout": {"hyperparameters": {"word_dropout": 0.3}},
    "stride": {"training": {"stride": 30}},
    "max_tokens": {"training": {"max_tokens": 48}},
    "epochs": {"training": {"epochs": 2}},
    "class_weighting": {"training": {"class_weighting": 0.5}},
    "mixed_precision": {"training": {"mixed_precision": True}},
    "warm_start": {"warm_start": True},
    "crf": {"training": {"crf": True, "epochs": 2}},
}


@pytest.fixture(scope="module")
def facts(run_script, few_documents, tiny_backbone):
    """Facts about a training of each variant, all in one container."""
    probe = Path(__file__).parent / "probe_training.py"
    mounts = {few_documents: "/dataset", tiny_backbone: "/backbone"}
    completed = run_script("trainer", probe, [json.dumps(VARIANTS)], mounts).ok()
    line = next(line for line in completed.stdout.splitlines() if line.startswith("FACTS "))
    return json.loads(line.removeprefix("FACTS "))


def test_the_same_settings_give_the_same_weights(facts):
    assert facts["base"]["weights"] == facts["again"]["weights"]


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"base", "again"}))
def test_every_setting_changes_the_training(facts, name):
    other = {"gradient_accumulation": "batch_size", "crf": "epochs"}.get(name, "base")
    assert facts[name]["weights"] != facts[other]["weights"]


def test_accumulated_batches_make_the_step_of_one_batch(facts):
    """The same windows in one batch or in three of different lengths, without dropout: the same gradient, up to rounding."""
    assert facts["accumulation"]["difference"] < 1e-4 * facts["accumulation"]["largest"]


def test_layers_learn_the_slower_the_lower_they_stand(facts):
    """Rates of `tiny` at 1e-3 and a decay of a half: embeddings, its two layers, the classifier, a field."""
    assert facts["rates"] == {
        "0.5": [1.25e-4, 2.5e-4, 5e-4, 1e-3], "1.0": [1e-3], "head": [1.25e-4, 2.5e-4, 5e-4, 1e-2, 1e-1],
    }  # fmt: skip


def test_word_dropout_hides_labelled_tokens_alone(facts):
    assert 0.2 < facts["hidden"]["share"] < 0.4
    assert facts["hidden"]["special"] == 0


def test_batches_hold_neighbours_in_length_and_each_window_once(facts):
    grouping = facts["grouping"]
    assert grouping["once"]
    assert grouping["padding"] < 0.25 * grouping["padding_at_random"]


def test_class_weights_raise_rare_labels_and_keep_the_mean(facts):
    """Labels on 90, 9 and 1 of 100 tokens, and one that never occurs."""
    balanced, root = facts["class_weights"]["1"], facts["class_weights"]["0.5"]
    assert balanced == pytest.approx([100 / 90 / 3, 100 / 9 / 3, 100 / 3, 100 / 3])
    assert [a / root[0] for a in root] == pytest.approx([1, 10**0.5, 90**0.5, 90**0.5])
    assert 0.90 * root[0] + 0.09 * root[1] + 0.01 * root[2] == pytest.approx(1)
    assert facts["class_weights"]["0"] is None


def test_the_loss_of_a_field_is_that_of_all_sequences(facts):
    assert facts["field"]["loss"] == pytest.approx(facts["field"]["expected"], rel=1e-5)
    assert facts["field"]["forbidden"] == 0


def test_a_model_with_a_field_hands_on_what_it_learned(facts):
    found = facts["fields"]
    assert found["learned"] > 0.001
    assert set(found["forbidden"]) == {0}
    assert found["taken"]
    assert found["in the weights"] == [], "the network of the model folder has no more than the classifier"


def test_a_warm_start_takes_the_body_and_the_labels_that_it_knows(facts):
    warm = facts["warm_start_weights"]
    assert warm["same"] == {"known": 7, "body": True, "rows": [True] * 7}
    assert warm["other"] == {"known": 3, "body": True, "rows": [True, True, True, False, False]}
    assert "its tokenizer is not the backbone's" in warm["tokenizer"]
    assert "is missing" in warm["missing"] and "is not a model folder" in warm["nothing"]


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    step_engine, run_step, few_documents, tiny_backbone, tmp_path
):
    """All documents are learned from, so the last epoch is kept: the weights show every step on either side of the kill."""
    training = {"epochs": 30, "all_data": True}
    folders = {name: tmp_path / name for name in ("whole", "killed", "resumed", "state")}
    for folder in folders.values():
        folder.mkdir()
    train(run_step, folders["whole"], few_documents, tiny_backbone, training).ok()

    argv = ["--dataset", "/dataset", "--backbone", "/backbone", "--model", "/out/model", "--state", "/state"]
    argv += ["--checkpoint-seconds", "0.2", "--training", json.dumps({"max_tokens": 64, "stride": 16} | training)]
    argv += ["--hyperparameters", json.dumps(LEARNS)]
    mounts = {few_documents: "/dataset", tiny_backbone: "/backbone", folders["state"]: "/state"}
    container = step_engine.start("trainer", argv, {**mounts, folders["killed"]: "/out"})
    for line in container.logs(stream=True, follow=True):
        if b"epoch 4/" in line:
            container.kill("SIGKILL")
    assert step_engine.finish(container, 60).code == 137
    assert list(folders["state"].glob("trainings/*/checkpoint.pt"))

    resumed = run_step("trainer", argv, {**mounts, folders["resumed"]: "/out"}).ok()
    assert "going on after" in resumed.stdout and "epoch 1/30" not in resumed.stdout
    assert folder_bytes(folders["resumed"] / "model") == folder_bytes(folders["whole"] / "model")
    assert not list(folders["state"].glob("trainings/*/*")), "a training that has left its model leaves nothing else"


def test_dropout_reaches_every_dropout_layer(facts):
    assert facts["base"]["dropout"] == [0.1]
    assert facts["dropout"]["dropout"] == [0.3]


def test_no_token_of_a_long_document_is_left_out(facts):
    assert facts["base"]["longest"] == 64, "no document is longer than a window: the test shows nothing"
    assert facts["base"]["labelled"] > facts["base"]["tokens"], "windows share `stride` tokens, so some stand twice"
    assert facts["base"]["covered"]


def test_training_stops_early_and_keeps_the_best_epoch(run_step, few_documents, tiny_backbone, tmp_path):
    completed = train(run_step, tmp_path, few_documents, tiny_backbone, {"epochs": 60, "patience": 2}).ok()
    history = json.loads((tmp_path / "model" / "history.json").read_text())
    ner = json.loads((tmp_path / "model" / "ner.json").read_text())
    scores = [epoch["macro_f1"] for epoch in history]
    assert len(history) < 60
    assert "stopped early" in completed.stdout
    assert ner["best_epoch"] == scores.index(max(scores)) + 1
    assert len(history) == ner["best_epoch"] + 2
    assert ner["scores"]["validation"]["macro_f1"] == max(scores)
    assert max(scores) > 0.5, "the model must have learnt something, or the best epoch means nothing"


def test_a_loss_that_is_no_number_fails_the_step(run_step, few_documents, tiny_backbone, tmp_path):
    bad = {"learning_rate": 1e30, "batch_size": 2}
    refused(train(run_step, tmp_path, few_documents, tiny_backbone, {}, bad), "diverged", "1e+30")
    assert not (tmp_path / "model").exists()


def test_an_empty_validation_split_is_refused(run_step, tiny_backbone, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", {"train": [make_document(1, 2)]})
    out = tmp_path / "out"
    out.mkdir()
    refused(train(run_step, out, dataset, tiny_backbone), "validation", "empty")


def test_an_unknown_hyperparameter_is_refused_with_a_suggestion(run_step, few_documents, tiny_backbone, tmp_path):
    refused(
        train(run_step, tmp_path, few_documents, tiny_backbone, {}, {"learning_rat": 1}),
        "unknown hyperparameter 'learning_rat'",
        "did you mean 'learning_rate'?",
    )


def test_a_window_longer_than_the_backbone_reads_is_refused(run_step, few_documents, tiny_backbone, tmp_path):
    refused(train(run_step, tmp_path, few_documents, tiny_backbone, {"max_tokens": 1024}), "1024", "at most 512")


def test_a_backbone_without_its_weights_is_refused(run_step, few_documents, tiny_backbone, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in tiny_backbone.iterdir():
        (bare / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((bare / "backbone.json").read_text()) | {"source": "local"}
    (bare / "backbone.json").write_text(json.dumps(manifest))
    (bare / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    out = tmp_path / "out"
    out.mkdir()
    refused(train(run_step, out, few_documents, bare), "no safetensors weights")


def test_a_refit_learns_from_the_validation_documents_for_all_epochs(run_step, few_documents, tiny_backbone, tmp_path):
    """Learning from all documents gives the very weights of learning from a dataset whose training split holds them all."""
    read = [json.loads(line) for name in ("train", "validation") for line in (few_documents / f"{name}.jsonl").open()]
    joined = write_dataset(tmp_path / "all-in-train", {"train": read, "validation": read[-1:]})
    runs = {
        "refit": (few_documents, {"epochs": 1, "all_data": True}),
        "joined": (joined, {"epochs": 1}),
        "longer": (few_documents, {"epochs": 3, "patience": 1, "all_data": True}),
    }
    for name, (dataset, training) in runs.items():
        (tmp_path / name).mkdir()
        completed = train(run_step, tmp_path / name, dataset, tiny_backbone, training).ok()
    assert "learned from all documents for 3 epochs" in completed.stdout
    weights = {name: (tmp_path / name / "model" / "model.safetensors").read_bytes() for name in runs}
    assert weights["refit"] == weights["joined"]
    ner = json.loads((tmp_path / "longer" / "model" / "ner.json").read_text())
    assert ner["best_epoch"] == 3 and ner["scores"]["validation"]["learned_from"] is True
    output = json.loads((tmp_path / "longer" / "executor_output.json").read_text())
    metrics = output["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert "learned_macro_f1" in metrics and "validation_macro_f1" not in metrics

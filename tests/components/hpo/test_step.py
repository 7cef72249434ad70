"""The search in its image: samplers, pruning, going on after a kill."""

from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

GOOD, HOPELESS = 0.01, 1e-9


def argv(
    trials=3, epochs=4, values=(GOOD, HOPELESS), pruner="median", sampler="random", seed=3, search=None, **training
):
    space = {
        "learning_rate": {"type": "choice", "values": list(values)},
        "dropout": {"type": "uniform", "min": 0, "max": 0.2},
    }
    settings = {"epochs": epochs, "max_tokens": 64, "stride": 16, "patience": 0} | training
    flags = {
        "dataset": "/dataset",
        "backbone": "/backbone",
        "search-space": json.dumps(space),
        "training": json.dumps(settings),
        "trials": str(trials),
        "search": json.dumps(search or {}),
        "sampler": sampler,
        "pruner": pruner,
        "seed": str(seed),
        "best-parameters": "/out/best.json",
        "study": "/out/study",
        "trials-table": "/out/trials.csv",
        "summary": "/out/summary.md",
        "plots": "/out/plots.html",
        "executor-output": "/out/executor_output.json",
    }
    return [part for name, value in flags.items() for part in (f"--{name}", value)]


@pytest.fixture
def place(few_documents, tiny_backbone, tmp_path):
    """The mounts of a search, with an output and a state folder of the test's own."""
    for name in ("out", "state"):
        (tmp_path / name).mkdir()
    return {
        few_documents: "/dataset",
        tiny_backbone: "/backbone",
        tmp_path / "out": "/out",
        tmp_path / "state": "/state",
    }


def table(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "out" / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def journal(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "state").glob("*/journal.log")
    return found


def refused(completed, *words):
    assert completed.code == 2, completed.stderr
    assert "Traceback" not in completed.stderr
    for word in words:
        assert word in completed.stderr


@pytest.fixture(scope="module")
def drawn(run_script):
    space = {
        "learning_rate": {"type": "loguniform", "min": 1e-5, "max": 1e-1},
        "dropout": {"type": "uniform", "min": 0, "max": 0.9},
        "weight_decay": {"type": "qloguniform", "min": 0.001, "max": 0.1, "q": 0.003},
        "warmup_ratio": {"type": "quniform", "min": 0, "max": 0.5, "q": 0.25},
        "batch_size": {"type": "intlog", "min": 1, "max": 64},
        "gradient_accumulation": {"type": "int", "min": 1, "max": 5, "q": 2},
    }
    probe = Path(__file__).parent / "probe_sampling.py"
    completed = run_script("hpo", probe, [json.dumps(space)], {}).ok()
    return json.loads(completed.stdout.split("FACTS ", 1)[1])


def test_every_type_draws_what_it_says(drawn):
    values = {name: [draw[name] for draw in drawn["random"]] for name in drawn["random"][0]}
    assert all(1e-5 <= rate <= 1e-1 for rate in values["learning_rate"])
    below_middle = sum(rate < 1e-3 for rate in values["learning_rate"])
    assert 8 <= below_middle <= 32, "half of a logarithmic range lies below its geometric middle"
    assert set(values["warmup_ratio"]) == {0, 0.25, 0.5}
    assert set(values["gradient_accumulation"]) == {1, 3, 5}
    assert all(isinstance(size, int) and 1 <= size <= 64 for size in values["batch_size"])
    assert sum(size <= 8 for size in values["batch_size"]) > 10
    for decay in values["weight_decay"]:
        steps = (decay - 0.001) / 0.003
        assert math.isclose(steps, round(steps), abs_tol=1e-6)
        assert 0.001 <= decay <= 0.1


def test_tpe_repeats_by_seed_and_learns(drawn):
    assert drawn["tpe"] == drawn["tpe again"]
    assert drawn["tpe"] != drawn["tpe other seed"]
    distance = [abs(draw["dropout"] - 0.2) for draw in drawn["tpe"]]
    assert sum(distance[-8:]) < sum(distance[:8]), "after its start-up, TPE draws nearer to the best"


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc", "nsga2"])
def test_every_sampler_repeats_by_seed(drawn, sampler):
    assert drawn[sampler] == drawn[f"{sampler} again"]
    assert len({draw["dropout"] for draw in drawn[sampler]}) >= 4, "crossing over keeps values of the parents"


def test_a_hopeless_trial_is_pruned_and_the_outputs_are_whole(run_step, place, tmp_path):
    completed = run_step("hpo", argv(trials=5), place).ok()
    rows = table(tmp_path)
    assert len(rows) == 5
    hopeless = [row for row in rows if float(row["learning_rate"]) == HOPELESS]
    assert hopeless, "the seed draws no hopeless trial: the test shows nothing"
    after = [row for row in hopeless if int(row["trial"]) > 0]
    assert all(row["state"] == "pruned" and int(row["epochs"]) < 4 for row in after), rows
    assert after
    best = json.loads((tmp_path / "out" / "best.json").read_text())
    assert best["learning_rate"] == GOOD
    study = json.loads((tmp_path / "out" / "study" / "study.json").read_text())
    complete = [trial for trial in study["trials"] if trial["state"] == "complete"]
    assert study["best_value"] == max(trial["macro_f1"] for trial in complete) > 0.3
    assert all(len(trial["reported"]) == trial["epochs"] for trial in study["trials"])
    assert "| pruned |" in (tmp_path / "out" / "summary.md").read_text()
    metrics = json.loads((tmp_path / "out" / "executor_output.json").read_text())
    values = metrics["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert values["trials_pruned"] == sum(row["state"] == "pruned" for row in rows)
    assert "trial 0:" in completed.stdout


def test_a_worker_works_and_the_search_closes_what_it_left(run_step, place, tmp_path):
    """Cross-validation with the space's conditions, by a worker first, then by the step that closes the study."""
    command = argv(trials=2, epochs=2, pruner="none", sampler="gp", search={"folds": 3, "dry_run": True})
    space = {
        "batch_size": {"type": "choice", "values": [4, 8]},
        "learning_rate": {"type": "choice", "values": [GOOD, GOOD / 2], "when": {"batch_size": 4}},
    }
    command[command.index("--search-space") + 1] = json.dumps(space)
    worked = run_step("hpo", [*command, "--worker", "1", "--done", "/out/done.json"], place).ok()
    assert "dry run: 2 trainings" in worked.stdout
    assert json.loads((tmp_path / "out" / "done.json").read_text()) == {"worker": "1", "trials": 2}
    assert not (tmp_path / "out" / "best.json").exists()
    command[command.index("--trials") + 1] = "3"
    closed = run_step("hpo", command, place).ok()
    assert "2 of 3 trials are done" in closed.stdout
    study = json.loads((tmp_path / "out" / "study" / "study.json").read_text())
    folds = study["cross_validation"]["folds"]
    assert sorted(len(fold) for fold in folds) == [5, 5, 6]
    assert sorted(document for fold in folds for document in fold) == sorted(f"d{number}" for number in range(16))
    points = [trial["hyperparameters"] for trial in study["trials"]]
    assert len({json.dumps(point) for point in points}) == 3, "the space has three points, and each is had once"
    assert all(("learning_rate" in point) == (point["batch_size"] == 4) for point in points)
    for trial in study["trials"]:
        assert trial["epochs"] == 6
        assert len(trial["folds"]) == 3
        assert trial["macro_f1"] == pytest.approx(sum(trial["folds"]) / 3)
        assert trial["spread"] > 0
    refused(run_step("hpo", argv(trials=9, epochs=2, search={"mode": "reuse"}), place), "mode reuse", "0 of 9 trials")
    alone = run_step("hpo", [*command, "--worker", "1", "--done", "/out/d"], place, env={"AZUREML_RUN_ID": "job"})
    refused(alone, "workers on AzureML share a study only in a database", "intermodal-hpo")


def test_two_objectives_give_a_front_and_the_stated_choice(run_step, place, tmp_path):
    search = {"objectives": ["macro_f1", "latency_ms"], "tolerance": 1}
    command = argv(trials=2, epochs=1, pruner="none", sampler="grid", search=search)
    space = {"layers": {"type": "choice", "values": [1, 2]}}
    command[command.index("--search-space") + 1] = json.dumps(space)
    run_step("hpo", command, place).ok()
    study = json.loads((tmp_path / "out" / "study" / "study.json").read_text())
    fastest = min(study["trials"], key=lambda trial: trial["latency_ms"])
    assert json.loads((tmp_path / "out" / "best.json").read_text()) == {"layers": 1}, "half of the backbone is faster"
    assert 0 < fastest["latency_ms"] < 10_000
    assert study["best_trial"] == fastest["trial"] in study["pareto_front"]
    assert "the fastest whose macro-F1" in (tmp_path / "out" / "summary.md").read_text()
    page = (tmp_path / "out" / "plots.html").read_text()
    assert "Pareto front" in page and "src=" not in page.split("</script>")[-1]


def test_without_a_pruner_every_trial_runs_all_its_epochs(run_step, place, tmp_path):
    run_step("hpo", argv(trials=3, epochs=2, pruner="none"), place).ok()
    assert [(row["state"], row["epochs"]) for row in table(tmp_path)] == [("complete", "2")] * 3


def test_a_killed_search_goes_on_and_ends_as_if_it_had_not_been(step_engine, run_step, place, tmp_path):
    command = argv(trials=3, epochs=12, values=(GOOD, GOOD / 2), pruner="none", sampler="tpe")
    container = step_engine.start("hpo", command, place)
    try:
        deadline = time.monotonic() + 120
        while not _in_second_trial(container.logs().decode()):
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.05)
        container.pause()  # it is alive and holds the study, but cannot finish before it is killed
        refused(run_step("hpo", command, place), "another process works on the study")
        container.kill("SIGKILL")
    finally:
        step_engine.finish(container, 30)
    with journal(tmp_path).open("ab") as file:
        file.write(b'{"op_code": 6, "wor')
    resumed = run_step("hpo", command, place).ok()
    assert "1 of 3 trials are done" in resumed.stdout
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["complete", "interrupted", "complete", "complete"]
    assert "\ntrial 0:" not in resumed.stdout
    assert "\ntrial 2:" in resumed.stdout
    assert (rows[1]["learning_rate"], rows[1]["dropout"]) == (rows[2]["learning_rate"], rows[2]["dropout"])
    killed = json.loads((tmp_path / "out" / "best.json").read_text())

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    whole = {**{source: target for source, target in place.items() if target != "/state"}, fresh: "/state"}
    run_step("hpo", command, whole).ok()
    for straight, row in zip(table(tmp_path), (row for row in rows if row["state"] == "complete"), strict=True):
        for column in ("macro_f1", "epochs", "learning_rate", "dropout"):
            assert straight[column] == row[column]
    assert json.loads((tmp_path / "out" / "best.json").read_text()) == killed


def _in_second_trial(log: str) -> bool:
    """Return whether the second trial has run an epoch."""
    return "epoch 1/" in log.partition("trial 1:")[2]


def test_a_finished_study_is_not_run_again_and_a_larger_budget_goes_on(run_step, place, tmp_path):
    run_step("hpo", argv(trials=1, epochs=1, values=(GOOD,)), place).ok()
    again = run_step("hpo", argv(trials=1, epochs=1, values=(GOOD,)), place).ok()
    assert "1 of 1 trials are done" in again.stdout
    assert "epoch" not in again.stdout
    run_step("hpo", argv(trials=2, epochs=1, values=(GOOD,)), place).ok()
    assert [row["trial"] for row in table(tmp_path)] == ["0", "1"]
    run_step("hpo", argv(trials=1, epochs=1, values=(GOOD,), seed=4), place).ok()
    assert len(list((tmp_path / "state").iterdir())) == 2, "another seed is another study"


def test_a_search_in_which_every_trial_diverges_fails(run_step, place, tmp_path):
    completed = run_step("hpo", argv(trials=2, epochs=1, values=(1e30,)), place)
    refused(completed, "no trial of 2 ran to its end", "2 failed", "diverged")
    assert not (tmp_path / "out" / "best.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "tpee"}, ["unknown sampler 'tpee'", "'tpe'"]),
        ({"pruner": "medain"}, ["unknown pruner 'medain'", "'median'"]),
        ({"trials": 0}, ["trials must be at least 1"]),
        ({"epochz": 3}, ["unknown training setting 'epochz'", "'epochs'"]),
    ],
)
def test_a_typo_is_refused_with_a_suggestion(run_step, place, changes, words):
    refused(run_step("hpo", argv(**changes), place), *words)


def test_a_missing_state_volume_is_one_clear_line(run_step, place):
    mounts = {source: target for source, target in place.items() if target != "/state"}
    refused(run_step("hpo", argv(trials=1, epochs=1), mounts), "/state", "state volume")

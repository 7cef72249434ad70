"""How a search is asked for: what is refused, and what the bandit stops."""

from __future__ import annotations

import dataclasses

import optuna
import pytest

from components.hpo.folds import make_folds
from components.hpo.pruners import BanditPruner, make_pruner
from components.hpo.search_space import parse_search_space
from components.hpo.settings import OPTIONS, Search, parse_search
from components.hpo.study import search_parts
from components.kfp_io import StepError
from components.ner.formats import Document, Span
from intermodal.backends.azureml.search_space import translate
from intermodal.errors import Unsupported


def read(options=None, sampler="tpe", pruner="median", trials=4) -> Search:
    return parse_search(
        {} if options is None else options, trials=trials, sampler=sampler, pruner=pruner, seed=1, epochs=3
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"options": {"fold": 3}}, ["'fold'", "'folds'"]),
        ({"options": {"folds": 1}}, ["at least 2", "got 1"]),
        ({"options": {"folds": 2.5}}, ["folds", "2.5"]),
        ({"options": {"minutes": -1}}, ["minutes", "-1"]),
        ({"options": {"dry_run": "yes"}}, ["dry_run", "'yes'"]),
        ({"options": {"mode": "resum"}}, ["'resum'", "'resume'"]),
        ({"options": {"objectives": ["latency_ms"]}}, ["objectives must be"]),
        ({"options": {"objectives": ["macro_f1", "latency"]}}, ["'latency'", "'latency_ms'"]),
        ({"options": {"objectives": ["macro_f1", "latency_ms"]}}, ["median", "pruner: none"]),
        ({"options": {"objectives": ["macro_f1", "latency_ms"]}, "pruner": "none", "sampler": "cmaes"}, ["cmaes"]),
        ({"sampler": "nsga3"}, ["'nsga3'", "'nsga2'"]),
        ({"pruner": "bandit"}, ["slack_factor or slack_amount"]),
        ({"options": {"pruning": {"slack_factor": 1, "slack_amount": 1}}, "pruner": "bandit"}, ["one of them"]),
        ({"options": {"pruning": {"slack": 1}}, "pruner": "bandit"}, ["'slack'", "'slack_"]),
        ({"options": {"pruning": {"reduction": 1}}, "pruner": "asha"}, ["reduction must be at least 2"]),
        ({"options": {"pruning": {"warmup": 1.5}}}, ["warmup", "whole", "1.5"]),
        ({"options": {"pruning": {"warmup": 1}}, "pruner": "none"}, ["takes no settings"]),
        ({"options": []}, ["mapping"]),
    ],
)
def test_what_cannot_be_is_named_with_its_value(given, words):
    with pytest.raises(StepError) as caught:
        read(**given)
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_what_is_left_at_its_default_makes_no_other_study():
    assert search_parts(read()) == {"seed": 1, "sampler": "tpe", "pruner": "median"}
    same = {"minutes": 5, "tolerance": 0.5, "mode": "reuse", "dry_run": True, "lease_seconds": 5}
    assert search_parts(read(same)) == search_parts(read())
    other = {"pruning": {"warmup": 1}, "folds": 3, "study": "b"}
    assert set(search_parts(read(other))) - set(search_parts(read())) == set(other)
    assert set(same) | set(other) | {"objectives"} == set(OPTIONS)


@pytest.mark.parametrize(
    ("slack", "score", "stopped"),
    [
        ({"slack_factor": 0.25}, 0.63, True),  # below 0.8 / 1.25 = 0.64
        ({"slack_factor": 0.25}, 0.65, False),
        ({"slack_amount": 0.1}, 0.69, True),
        ({"slack_amount": 0.1}, 0.71, False),
    ],
)
def test_the_bandit_stops_what_falls_behind_the_best_at_the_same_step(slack, score, stopped):
    given = {"slack_factor": 0.0, "slack_amount": 0.0, "evaluation_interval": 2, "delay_evaluation": 3} | slack
    study = optuna.create_study(direction="maximize", pruner=BanditPruner(**given))
    best = study.ask()
    for step, value in enumerate([0.8, 0.5, 0.5, 0.5, 0.99], start=1):
        best.report(value, step)  # what it reaches at step 5 counts for nothing at step 4
    study.tell(best, 0.99)
    trial = study.ask()
    pruned = []
    for step in range(1, 5):
        trial.report(score if step == 2 else 0.0, step)  # its best so far counts, not its last
        pruned.append(trial.should_prune())
    assert pruned == [False, False, False, stopped], "step 2 is before the delay, steps 1 and 3 are between intervals"


CURVES = {
    "good": [0.2, 0.5, 0.6, 0.7, 0.8, 0.9],
    "stuck": [0.15, 0.3, 0.3, 0.3, 0.3, 0.3],
    "falls": [0.21, 0.2, 0.2, 0.2, 0.2, 0.2],
    "hopeless": [0.0] * 6,
}
STOPS = {
    # name, settings: the epochs at which `stuck`, `falls`, `hopeless` are stopped after four good trials; None: never
    ("none", ""): (None, None, None),
    ("median", ""): (1, 2, 1),
    ("median", "warmup=3"): (3, 3, 3),
    ("median", "interval=3,warmup=2"): (2, 2, 2),
    ("median", "startup=5"): (None, None, None),
    ("percentile", "percentile=100"): (1, 2, 1),
    ("asha", "min_epochs=2,reduction=2"): (2, 2, 2),
    ("patient", "patience=2"): (None, 4, None),
    ("patient", "patience=2,min_delta=0.1"): (None, None, None),
    ("bandit", "slack_factor=0.5"): (2, 2, 1),
    ("bandit", "slack_amount=0.45"): (5, 4, 2),
}


@pytest.mark.parametrize(("name", "given"), STOPS)
@pytest.mark.parametrize("curve", CURVES)
def test_each_pruner_stops_where_it_says(name: str, given: str, curve: str):
    pruning = {key: float(value) for key, value in (word.split("=") for word in given.split(",") if word)}
    search = dataclasses.replace(read({"pruning": pruning}, pruner=name, trials=4), epochs=6)
    study = optuna.create_study(direction="maximize", pruner=make_pruner(search))
    for _ in range(4):
        assert _stopped(study, CURVES["good"]) is None
    expected = dict(zip(CURVES, (None, *STOPS[name, given]), strict=True))
    assert _stopped(study, CURVES[curve]) == expected[curve]


def test_hyperband_stops_hopeless_trials_in_each_bracket_at_an_epoch_of_its_own():
    search = dataclasses.replace(
        read({"pruning": {"min_epochs": 1, "reduction": 2}}, pruner="hyperband", trials=80), epochs=6
    )
    study = optuna.create_study(study_name="a", direction="maximize", pruner=make_pruner(search))
    found = [(_stopped(study, CURVES["good"]), _stopped(study, CURVES["hopeless"])) for _ in range(40)]
    assert {good for good, _ in found} == {None}
    stopped = {bad for _, bad in found if bad is not None}
    assert stopped == {1, 2, 4}, "brackets begin to stop trials at 1, 2 and 4 of six epochs"


def _stopped(study: optuna.Study, curve: list[float]) -> int | None:
    """Run a trial with this curve; return the epoch at which it was stopped, None if it was not."""
    trial = study.ask()
    for epoch, score in enumerate(curve, start=1):
        trial.report(score, epoch)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch
    study.tell(trial, curve[-1])
    return None


def test_a_dimension_exists_where_its_condition_holds():
    values = {
        "batch_size": {"type": "choice", "values": [4, 8]},
        "dropout": {"type": "quniform", "min": 0, "max": 0.2, "q": 0.1, "when": {"batch_size": 8}},
        "gradient_accumulation": {"type": "choice", "values": [1, 2], "when": {"batch_size": [4, 8]}},
    }
    space = parse_search_space(values)
    points = space.points()
    assert points is not None and len(points) == 2 + 3 * 2
    assert all(("dropout" in point) == (point["batch_size"] == 8) for point in points)
    with pytest.raises(Unsupported, match="dropout: exists only for some values of batch_size"):
        translate(space)
    assert parse_search_space({**values, "learning_rate": {"type": "uniform", "min": 0.1, "max": 1}}).points() is None


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"batch_siz": 8}, ["'batch_siz'", "'batch_size'"]),
        ({"warmup_ratio": 0.5}, ["warmup_ratio"]),
        ({"weight_decay": 0.5}, ["weight_decay, which is no choice"]),
        ({"batch_size": 5}, ["batch_size 5, which it never is"]),
        ({"batch_size": []}, ["no value"]),
        ([], ["must map one other dimension"]),
        ({"max_grad_norm": 1}, ["circle"]),
    ],
)
def test_a_condition_that_cannot_hold_is_named(when, words):
    with pytest.raises(StepError) as caught:
        parse_search_space(
            {
                "batch_size": {"type": "choice", "values": [4, 8]},
                "weight_decay": {"type": "uniform", "min": 0, "max": 1},
                "dropout": {"type": "choice", "values": [0.1], "when": when},
                "max_grad_norm": {"type": "choice", "values": [1], "when": {"dropout": 0.1}},
            }
        )
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_folds_hold_every_document_once_and_as_much_of_each_type():
    labels = {"A": 40, "B": 20, "C": 10, "D": 2}
    documents = []
    for number in range(50):
        spans = tuple(Span(0, 1, label) for label, count in labels.items() if (number * 7) % 50 < count)
        documents.append(Document(f"d{number}", "x", spans))
    folds = make_folds(documents, 5, seed=3)
    assert sorted(index for members in folds.members for index in members) == list(range(50))
    assert [len(members) for members in folds.members] == [10] * 5
    for label, count in labels.items():
        having = [sum(any(span.label == label for span in documents[i].spans) for i in m) for m in folds.members]
        assert max(having) - min(having) <= 1, (label, having)
        assert sum(having) == count
    assert folds.unstratified == ("D",)
    assert not set(folds.train(2)) & set(folds.members[2])
    assert make_folds(documents, 5, seed=3) == folds != make_folds(documents, 5, seed=4)
    with pytest.raises(StepError, match="folds is 5, but there are 3 documents"):
        make_folds(documents[:3], 5, seed=3)

"""The vocabulary of a search space, and what it says to a typo."""

from __future__ import annotations

import pytest

from components.hpo.search_space import KINDS, canonical, parse_search_space, read_trial
from components.kfp_io import StepError


def test_the_whole_vocabulary_is_read():
    space = parse_search_space(
        {
            "learning_rate": {"type": "loguniform", "min": 1e-5, "max": 1e-3},
            "dropout": {"type": "uniform", "min": 0, "max": 0.3},
            "weight_decay": {"type": "qloguniform", "min": 0.01, "max": 0.1, "q": 0.01},
            "warmup_ratio": {"type": "quniform", "min": 0, "max": 0.2, "q": 0.05},
            "batch_size": {"type": "choice", "values": [4.0, 8]},
            "gradient_accumulation": {"type": "int", "min": 1, "max": 4},
        }
    )
    by_name = {dimension.name: dimension for dimension in space.dimensions}
    assert (by_name["learning_rate"].low, by_name["learning_rate"].high) == (1e-5, 1e-3)
    assert by_name["batch_size"].values == (4, 8)
    assert isinstance(by_name["batch_size"].values[0], int)
    assert set(KINDS) == {"choice", "uniform", "loguniform", "quniform", "qloguniform", "int", "intlog"}


def test_the_order_in_the_file_does_not_matter():
    one = {"dropout": {"type": "uniform", "min": 0, "max": 0.3}, "batch_size": {"type": "int", "min": 2, "max": 8}}
    assert canonical(parse_search_space(one)) == canonical(parse_search_space(dict(reversed(one.items()))))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({}, ["at least one"]),
        ([], ["search space"]),
        ({"learning_rat": {"type": "uniform", "min": 0, "max": 1}}, ["'learning_rat'", "'learning_rate'"]),
        ({"learning_rate": {"type": "logunifrom", "min": 1e-5, "max": 1}}, ["'logunifrom'", "'loguniform'"]),
        ({"learning_rate": {"min": 1e-5, "max": 1}}, ["learning_rate has no type"]),
        ({"learning_rate": {"type": "loguniform", "min": 1e-5}}, ["needs 'max'"]),
        ({"learning_rate": {"type": "loguniform", "min": 1e-5, "maxx": 1}}, ["'maxx'", "'max'"]),
        ({"learning_rate": {"type": "loguniform", "min": 0, "max": 1}}, ["above 0"]),
        ({"learning_rate": {"type": "loguniform", "min": "1e-5", "max": 1}}, ["'1e-5'"]),
        ({"learning_rate": {"type": "uniform", "min": 2, "max": 1}}, ["min 2 is greater than max 1"]),
        ({"learning_rate": 3e-5}, ["mapping", "3e-05"]),
        ({"batch_size": {"type": "uniform", "min": 2, "max": 8}}, ["whole number", "choice"]),
        ({"batch_size": {"type": "int", "min": 2.5, "max": 8}}, ["2.5"]),
        ({"batch_size": {"type": "choice", "values": []}}, ["at least one value"]),
        ({"batch_size": {"type": "choice", "values": [8, 8.0]}}, ["twice"]),
        ({"batch_size": {"type": "choice", "values": [0]}}, ["at least 1"]),
        ({"dropout": {"type": "uniform", "min": 0, "max": 3}}, ["dropout", "at most 0.95"]),
        ({"dropout": {"type": "quniform", "min": 0, "max": 0.1, "q": 0.2}}, ["q must be"]),
        ({"epochs": {"type": "int", "min": 1, "max": 3}}, ["'epochs'"]),
    ],
)
def test_a_bad_space_is_named_with_its_value(space, words):
    with pytest.raises(StepError) as caught:
        parse_search_space(space)
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_a_trial_that_somebody_else_drew_has_each_hyperparameter_in_its_own_type():
    space = parse_search_space(
        {"batch_size": {"type": "choice", "values": [4, 8]}, "dropout": {"type": "uniform", "min": 0, "max": 0.3}}
    )
    trial = read_trial({"dropout": 0, "batch_size": 4.0}, space)
    assert trial == {"batch_size": 4, "dropout": 0.0}
    assert isinstance(trial["batch_size"], int) and isinstance(trial["dropout"], float)
    for given in ({"dropout": 0.1}, {"dropout": 0.1, "batch_size": 4, "learning_rate": 1e-3}, [0.1], None):
        with pytest.raises(StepError, match="a trial of batch_size, dropout was given"):
            read_trial(given, space)
    with pytest.raises(StepError, match="batch_size"):
        read_trial({"dropout": 0.1, "batch_size": 4.5}, space)

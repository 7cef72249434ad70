"""Hyperparameters and training settings: what is taken and what is refused."""

from __future__ import annotations

import pytest

from components.kfp_io import StepError
from components.trainer.settings import (
    HYPERPARAMETER_NAMES,
    TrainingSettings,
    check_value,
    parse_hyperparameters,
    parse_training,
    read_assignments,
)


def test_whole_floats_are_integers_since_kfp_has_only_doubles():
    settings = parse_training({"epochs": 3.0, "max_tokens": 128.0, "stride": 32.0})
    assert (settings.epochs, settings.max_tokens) == (3, 128)
    assert isinstance(settings.epochs, int)
    hyperparameters = parse_hyperparameters({"batch_size": 16.0, "learning_rate": 1}, settings)
    assert isinstance(hyperparameters.batch_size, int)
    assert isinstance(hyperparameters.learning_rate, float)


def test_what_hyperparameters_leave_out_comes_from_the_training_settings():
    settings = parse_training({"gradient_accumulation": 4, "warmup_ratio": 0.3})
    assert parse_hyperparameters({}, settings).gradient_accumulation == 4
    assert parse_hyperparameters({}, settings).warmup_ratio == 0.3
    assert parse_hyperparameters({"gradient_accumulation": 2}, settings).gradient_accumulation == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rat": 1e-4}, ["unknown hyperparameter 'learning_rat'", "'learning_rate'"]),
        ({"learning_rate": "2e-5"}, ["learning_rate", "'2e-5'"]),
        ({"learning_rate": 0}, ["learning_rate", "above 0"]),
        ({"learning_rate": float("nan")}, ["learning_rate", "nan"]),
        ({"batch_size": 2.5}, ["batch_size", "2.5"]),
        ({"batch_size": True}, ["batch_size", "True"]),
        ({"dropout": 1.0}, ["dropout", "at most 0.95"]),
        ({"crf": 1}, ["unknown hyperparameter 'crf'"]),
    ],
)
def test_a_bad_hyperparameter_is_named_with_its_value(values, words):
    with pytest.raises(StepError) as caught:
        parse_hyperparameters(values, TrainingSettings())
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_a_training_typo_gets_a_suggestion():
    with pytest.raises(StepError) as caught:
        parse_training({"epoch": 3})
    assert caught.value.hint == "did you mean 'epochs'?"


def test_windows_that_would_not_advance_are_refused():
    with pytest.raises(StepError, match="stride is 62"):
        parse_training({"max_tokens": 64, "stride": 62})
    assert parse_training({"max_tokens": 64, "stride": 61}).stride == 61


def test_every_hyperparameter_has_a_range():
    for name in HYPERPARAMETER_NAMES:
        with pytest.raises(StepError):
            check_value(name, -1)


def test_a_refit_is_asked_for_by_true_alone():
    assert parse_training({"all_data": True}).all_data is True
    assert parse_training({}).all_data is False
    with pytest.raises(StepError, match="all_data must be true or false, got 1"):
        parse_training({"all_data": 1})


def test_how_much_rare_labels_count_has_a_range_and_a_default_that_changes_nothing():
    assert (TrainingSettings().class_weighting, TrainingSettings().mixed_precision) == (0, False)
    with pytest.raises(StepError, match=r"class_weighting is 1\.5, it must be at least 0 and at most 1"):
        parse_training({"class_weighting": 1.5})
    with pytest.raises(StepError, match=r"class_weighting is 0\.5, but with crf the loss is of whole sequences"):
        parse_training({"class_weighting": 0.5, "crf": True})


def test_single_hyperparameters_need_no_quoting():
    assert read_assignments(["learning_rate=1e-05", "batch_size=4", "dropout=-0.0"]) == {
        "learning_rate": 1e-05, "batch_size": 4, "dropout": 0.0,
    }  # fmt: skip
    for text in ("learning_rate", "learning_rate=", "learning_rate=${{search_space.x}}"):
        with pytest.raises(StepError, match="expected NAME=VALUE"):
            read_assignments([text])

"""Which trial of a sweep is the best, and what is said where none can be."""

from __future__ import annotations

from typing import Any

import pytest

from intermodal.errors import BadInput
from intermodal.jobs import JobUnfit, Trial
from intermodal.jobs.selection import best_trial, hyperparameters_of
from intermodal.jobs.tracking import trial_of


def trial(number: int, score: float | None = None, status: str = "Completed", **more: Any) -> Trial:
    return Trial(f"s_{number}", status, {} if score is None else {"validation_macro_f1": score}, **more)


def test_the_best_by_the_sweeps_direction_and_the_earlier_of_equals():
    trials = [trial(0, 0.5), trial(1, 0.9), trial(2, 0.9), trial(3, 0.1)]
    assert best_trial(trials, "validation_macro_f1", "maximize", "s") == (trials[1], 4)
    assert best_trial(trials, "validation_macro_f1", "minimize", "s") == (trials[3], 4)


def test_trials_that_failed_were_stopped_or_logged_nothing_are_left_out():
    trials = [trial(0, 0.99, "Failed"), trial(1, 0.98, "Canceled"), trial(2), trial(3, 0.2)]
    assert best_trial(trials, "validation_macro_f1", "maximize", "s") == (trials[3], 1)


def test_a_metric_that_was_not_logged_is_never_replaced_by_another():
    with pytest.raises(BadInput, match="no trial logged 'validation_macro-f1'") as caught:
        best_trial([trial(0, 0.5)], "validation_macro-f1", "maximize", "s")
    assert "did you mean 'validation_macro_f1'?" in str(caught.value.hint)
    with pytest.raises(JobUnfit, match=r"no trial completed \(s_0 Failed\)"):
        best_trial([trial(0, 0.5, "Failed")], "validation_macro_f1", "maximize", "s")


def run(metrics: dict[str, Any], **more: dict[str, str]) -> dict[str, Any]:
    """A run as MLflow's REST interface has it."""

    def pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"key": key, "value": value} for key, value in values.items()]

    return {"info": {}, "data": {"metrics": pairs(metrics), **{name: pairs(values) for name, values in more.items()}}}


def test_what_a_trial_was_trained_with_is_read_as_numbers():
    said = trial_of(
        "s_0",
        "Completed",
        run(
            {"f1": 0.5, "loss": "NaN"}, tags={"intermodal.hyperparameters": '{"learning_rate": 1e-05, "batch_size": 4}'}
        ),
    )
    assert said.metrics == {"f1": 0.5}
    assert hyperparameters_of(said, ["learning_rate"]) == {"learning_rate": 1e-05, "batch_size": 4}
    told = trial_of("s_1", "Completed", run({"f1": 0.5}, params={"learning_rate": "1e-05", "other": "x"}))
    assert hyperparameters_of(told, ["learning_rate"]) == {"learning_rate": 1e-05}
    with pytest.raises(JobUnfit, match="s_1: does not say what batch_size it had"):
        hyperparameters_of(told, ["learning_rate", "batch_size"])

"""What the tables of the benchmarks say: never more than was measured."""

from __future__ import annotations

import random

import pytest

from benchmarks.figures import Figure, by_turns, median_interval


@pytest.mark.parametrize("rounds", [6, 9, 10, 25])
def test_the_interval_holds_the_median_of_any_distribution_19_times_of_20(rounds: int) -> None:
    draw = random.Random(rounds)
    held = 0
    for _ in range(4000):
        low, high = median_interval([draw.random() ** 5 for _ in range(rounds)])
        held += low <= 0.5**5 <= high
    assert 0.94 < held / 4000 < 0.995


def test_too_few_rounds_carry_no_interval() -> None:
    with pytest.raises(ValueError, match="5 rounds carry no 95 % interval"):
        median_interval([1.0] * 5)


def _figure(ratios: list[float]) -> Figure:
    return by_turns("a model", [10.0] * len(ratios), "peer", [10.0 * ratio for ratio in ratios], 3.0)


def test_a_target_is_met_by_the_whole_interval_missed_by_none_of_it_else_nothing_is_said() -> None:
    above, below, across = (
        _figure([ratio * 1.01**n for n in range(10)]) for ratio in (3.2, 2.5, 2.9)
    )  # fmt: skip
    assert above.met and "inconclusive" not in above.what
    assert not below.met and "inconclusive" not in below.what
    assert not across.met and across.what == "a model (inconclusive)"


def test_one_round_that_the_host_spoilt_changes_no_verdict() -> None:
    assert _figure([3.3] * 9 + [1.8]).met
    assert _figure([3.3] * 9 + [1.8]).ratio == "3.30 × faster (3.30 to 3.30)"

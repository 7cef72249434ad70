"""A translated search space: AzureML draws what Optuna draws, no more and no less, and as likely."""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter
from typing import Any

import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.hpo.search_space import SearchSpace
from components.kfp_io import StepError
from intermodal.backends.azureml.emulator.execution.sampling import points, read_space
from intermodal.backends.azureml.search_space import translate
from intermodal.errors import BadInput, Unsupported
from intermodal.jobs import azureml_search_space, read_search_space

NAME = {False: "weight_decay", True: "batch_size"}


def draw(distribution: Any, share: float) -> Any:
    """AzureML's draw where its uniform generator gives `share` of the way from min to max, by the rules of its documentation."""
    kind, parameters = distribution._to_rest_object()
    if kind == "choice":
        values = parameters[0]
        return values[min(int(share * len(values)), len(values) - 1)]
    if kind == "randint":
        return min(int(share * parameters[0]), parameters[0] - 1)
    low, high, *step = parameters
    drawn = (1 - share) * low + share * high
    if "log" in kind:
        drawn = math.exp(drawn)
    return round(drawn / step[0]) * step[0] if step else drawn


def taken_by_optuna(space: SearchSpace, name: str, value: Any) -> bool:
    """Whether the very dimension, sampled by Optuna, can give `value`."""
    (dimension,) = space.dimensions
    near = min(
        max(value, dimension.low), dimension.high
    )  # a grid's point may be off by a last digit, which Optuna calls outside
    if not math.isclose(value, near, rel_tol=1e-9, abs_tol=1e-12):
        return False
    given_value = int(near) if name == "batch_size" else near
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The distribution is specified by")
        warnings.filterwarnings("error", message=".* is out of the range")
        try:
            sampled = space.sample(optuna.trial.FixedTrial({name: given_value}))[name]
        except UserWarning:
            return False
    return math.isclose(sampled, value, rel_tol=1e-9, abs_tol=1e-12)


def grid(space: SearchSpace) -> list[float]:
    """The points of a dimension with steps, as Optuna's own distribution has them."""
    (dimension,) = space.dimensions
    step = dimension.step or 1.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The distribution is specified by")
        top = optuna.distributions.FloatDistribution(dimension.low, dimension.high, step=step).high
    return [dimension.low + number * step for number in range(round((top - dimension.low) / step) + 1)]


def translated(dimension: dict[str, Any], *, whole: bool = False) -> tuple[SearchSpace, str, Any]:
    name = NAME[whole]
    space = read_search_space({name: dimension})
    return space, name, azureml_search_space(space)[name]


SHARES = st.floats(0, 1)
SMALL = st.floats(1e-6, 1e3)


@given(low=SMALL, high=SMALL, kind=st.sampled_from(["uniform", "loguniform"]), share=SHARES)
def test_a_continuous_dimension_is_covered_exactly(low, high, kind, share):
    low, high = sorted((low, high))
    space, name, made = translated({"type": kind, "min": low, "max": high})
    assert taken_by_optuna(space, name, draw(made, share))
    assert math.isclose(draw(made, 0), low, rel_tol=1e-12)
    assert low == high or math.isclose(draw(made, 1), high, rel_tol=1e-12)
    assert low <= draw(made, 0) and draw(made, 1) <= high


@settings(max_examples=40)
@given(
    first=st.integers(0, 20),
    count=st.integers(1, 40),
    step=st.sampled_from([0.01, 0.05, 0.1, 0.125, 0.25, 1.0, 3.0]),
    beyond=st.floats(0.01, 0.9),
    offset=st.sampled_from([0.0, 0.0, 0.3]),
)
def test_a_grid_is_covered_point_by_point_each_as_likely(first, count, step, beyond, offset):
    low = (first + offset) * step
    space, _, made = translated({"type": "quniform", "min": low, "max": low + (count + beyond) * step, "q": step})
    points = grid(space)
    times = 100
    draws = [draw(made, number / (times * len(points))) for number in range(times * len(points) + 1)]
    nearest = {value: min(points, key=lambda point: abs(point - value)) for value in set(draws)}
    assert all(math.isclose(value, point, rel_tol=1e-9, abs_tol=1e-12) for value, point in nearest.items())
    counted = Counter(nearest[value] for value in draws)
    assert sorted(counted) == points
    assert max(counted.values()) - min(counted.values()) <= 3


@settings(max_examples=40)
@given(low=st.integers(1, 60), width=st.integers(1, 60), step=st.none() | st.integers(1, 7))
def test_whole_numbers_are_covered_one_by_one_each_as_likely(low, width, step):
    assume(step is None or step <= width)
    dimension = {"type": "int", "min": low, "max": low + width} | ({"q": step} if step else {})
    space, name, made = translated(dimension, whole=True)
    expected = list(range(low, low + width + 1, step or 1))
    times = 100
    counted = Counter(draw(made, number / (times * len(expected))) for number in range(times * len(expected) + 1))
    assert sorted(counted) == expected
    assert max(counted.values()) - min(counted.values()) <= 3
    assert all(taken_by_optuna(space, name, value) for value in counted)


@settings(max_examples=40)
@given(low=st.integers(1, 50), width=st.integers(1, 200))
def test_logarithmic_whole_numbers_are_covered_and_as_likely_as_optuna_has_them(low, width):
    space, name, made = translated({"type": "intlog", "min": low, "max": low + width}, whole=True)
    times = 5000
    counted = Counter(draw(made, number / times) for number in range(times + 1))
    assert draw(made, 0) == low and draw(made, 1) == low + width
    assert set(counted) <= set(range(low, low + width + 1))
    assert all(taken_by_optuna(space, name, value) for value in counted)
    span = math.log((low + width + 0.5) / (low - 0.5))
    for value in (low, low + width // 2, low + width):
        assert math.isclose(counted[value] / times, math.log((value + 0.5) / (value - 0.5)) / span, abs_tol=5e-4)


def test_optuna_itself_draws_whole_logarithms_from_half_a_step_beyond_either_end():
    space = read_search_space({"batch_size": {"type": "intlog", "min": 1, "max": 3}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = Counter(space.sample(study.ask())["batch_size"] for _ in range(2000))
    made = azureml_search_space(space)["batch_size"]
    counted = Counter(draw(made, number / 2000) for number in range(2001))
    for value in (1, 2, 3):
        assert math.isclose(drawn[value], counted[value], abs_tol=80)


@settings(max_examples=40)
@given(first=st.integers(1, 30), count=st.integers(1, 40), beyond=st.floats(0.01, 0.9))
def test_a_logarithmic_grid_is_covered(first, count, beyond):
    step = 0.001
    dimension = {"type": "qloguniform", "min": first * step, "max": (first + count + beyond) * step, "q": step}
    space, name, made = translated(dimension)
    draws = {draw(made, number / 5000) for number in range(5001)}
    assert all(taken_by_optuna(space, name, value) for value in draws)
    rounded = sorted({round(value / step) for value in draws})
    assert rounded == list(range(first, first + count + 1))


def test_the_bounds_of_a_loguniform_are_natural_logarithms():
    """Bounds passed on as they are would search learning rates near 1."""
    _, _, made = translated({"type": "loguniform", "min": 1e-5, "max": 5e-5})
    assert math.isclose(made.min_value, math.log(1e-5)) and math.isclose(made.max_value, math.log(5e-5))
    assert 1e-5 <= draw(made, 0.5) <= 5e-5


def test_each_type_has_its_form():
    space = read_search_space(
        {
            "learning_rate": {"type": "loguniform", "min": 1e-5, "max": 1e-3},
            "batch_size": {"type": "choice", "values": [4, 8]},
            "dropout": {"type": "quniform", "min": 0.0, "max": 0.95, "q": 0.05},
            "warmup_ratio": {"type": "quniform", "min": 0, "max": 1, "q": 0.25},
            "weight_decay": {"type": "uniform", "min": 0.5, "max": 0.5},
            "gradient_accumulation": {"type": "int", "min": 1, "max": 4},
        }
    )
    made = azureml_search_space(space)
    kinds = {name: distribution.type for name, distribution in made.items()}
    assert kinds == {
        "learning_rate": "loguniform",
        "batch_size": "choice",
        "dropout": "choice",  # 19 * 0.05 is more than 0.95, which the trainer would refuse
        "warmup_ratio": "quniform",
        "weight_decay": "choice",  # one value
        "gradient_accumulation": "quniform",
    }
    assert made["dropout"].values[-1] == 0.95


def test_what_azureml_cannot_express_names_the_dimension():
    fine = read_search_space({"weight_decay": {"type": "quniform", "min": 0.00005, "max": 1.0, "q": 0.0001}})
    with pytest.raises(Unsupported, match="weight_decay") as caught:
        azureml_search_space(fine)
    assert "multiple of q" in str(caught.value.hint)
    odd = read_search_space({"weight_decay": {"type": "qloguniform", "min": 0.0015, "max": 0.1, "q": 0.001}})
    with pytest.raises(Unsupported, match="weight_decay"):
        azureml_search_space(odd)
    space = read_search_space({"learning_rate": {"type": "loguniform", "min": 1e-5, "max": 1e-3}})
    for sampling in ("bayesian", "grid"):
        with pytest.raises(Unsupported, match=f"learning_rate: {sampling}"):
            azureml_search_space(space, sampling)
    assert azureml_search_space(space, "sobol")["learning_rate"].type == "loguniform"


def test_the_parser_is_that_of_the_hpo_step_and_a_backbone_is_no_dimension():
    with pytest.raises(BadInput, match="learning_rat") as caught:
        read_search_space({"learning_rat": {"type": "uniform", "min": 0, "max": 1}})
    assert "learning_rate" in str(caught.value.hint)
    assert isinstance(caught.value.__cause__, StepError)
    with pytest.raises(BadInput, match="backbone"):
        read_search_space({"backbone": {"type": "choice", "values": ["a", "b"]}})


def test_the_emulators_draws_are_values_that_optuna_could_have_drawn():
    written = {
        "learning_rate": {"type": "loguniform", "min": 1e-5, "max": 1e-3},
        "weight_decay": {"type": "qloguniform", "min": 0.001, "max": 0.0305, "q": 0.001},
        "warmup_ratio": {"type": "quniform", "min": 0.0, "max": 0.5, "q": 0.125},
        "batch_size": {"type": "int", "min": 3, "max": 9, "q": 3},
    }
    for name, dimension in written.items():
        space = read_search_space({name: dimension})
        drawn = points(read_space(translate(space), "sweep"), "random", 1, "sweep")
        values = [point[name] for point in itertools.islice(drawn, 300)]
        assert all(taken_by_optuna(space, name, value) for value in values)
        assert len(set(values)) == {"warmup_ratio": 5, "batch_size": 3}.get(name, len(set(values)))

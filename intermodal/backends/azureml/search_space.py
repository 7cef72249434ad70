"""The search space of Optuna's search as one of AzureML's: the same values, as likely.

How AzureML draws (documentation of `azureml.train.hyperdrive.parameter_expressions`, which says it, and of `azure.ai.ml.sweep`):
uniform is U(min, max); loguniform exp(U(min, max)), so its bounds are natural logarithms; quniform round(U(min, max) / q) * q;
qloguniform round(exp(U(min, max)) / q) * q; randint a whole number in [0, upper); choice one of its values. `draw` below is that.

How Optuna draws: a float with a step, or an integer, is drawn half a step beyond either end and rounded, so that the ends are as
likely as the rest. The bounds here are widened by the same half step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from components.hpo.search_space import KINDS, Dimension, SearchSpace, parse_search_space
from components.kfp_io import StepError
from components.trainer.settings import check_value
from intermodal.errors import BadInput, Unsupported

_MOST_CHOICES = 1000
"""Points of a grid that are written out one by one."""

BAYESIAN_TYPES = ("choice", "uniform", "quniform")
"""What Bayesian sampling takes (documentation of BayesianParameterSampling)."""


def read_search_space(values: Any) -> SearchSpace:
    """Return the search space of `{name: {type, min, max, q, values}}`, by the very parser of the hpo step. Raises BadInput."""
    if isinstance(values, Mapping) and "backbone" in values:
        raise BadInput(
            "search space backbone: a sweep searches for one backbone", hint="make one sweep for each of them"
        )
    try:
        return parse_search_space(values)
    except StepError as error:
        raise BadInput(error.message, hint=error.hint) from error


def translate(space: SearchSpace, sampling: str = "random") -> dict[str, dict[str, Any]]:
    """Return the distribution of each hyperparameter as a job's YAML has it: `{type, min_value, max_value, q, values, upper}`.

    `sampling` is random, sobol, grid or bayesian. Raises Unsupported naming the dimension that AzureML, or this sampling of it,
    cannot express.
    """
    for dimension in space.dimensions:
        if dimension.when:
            raise Unsupported(
                f"search space {dimension.name}: exists only for some values of {dimension.when[0]}, and a sweep of AzureML has "
                "every hyperparameter in every trial",
                hint=f"make a sweep for each value of {dimension.when[0]}, or let the hpo step search",
            )
    found = {dimension.name: _distribution(dimension) for dimension in space.dimensions}
    for name, made in found.items():
        allowed = {"grid": ("choice",), "bayesian": BAYESIAN_TYPES}.get(sampling)
        if allowed and made["type"] not in allowed:
            raise Unsupported(
                f"search space {name}: {sampling} sampling of AzureML cannot take a {made['type']}",
                hint=f"it takes {', '.join(allowed)}; random sampling takes all",
            )
    return found


def _distribution(dimension: Dimension) -> dict[str, Any]:
    kind = KINDS[dimension.kind]
    if dimension.kind == "choice":
        return _choice(list(dimension.values))
    if dimension.low == dimension.high:
        return _choice([int(dimension.low) if kind.whole else dimension.low])
    if dimension.kind == "uniform":
        return _range("uniform", dimension.low, dimension.high)
    if dimension.kind == "loguniform":
        return _range("loguniform", *_logarithms(dimension.low, dimension.high))
    return _grid(dimension, kind.log)


def _grid(dimension: Dimension, logarithmic: bool) -> dict[str, Any]:
    """Return a dimension of evenly spaced points, `low + k * step`, as AzureML has it: multiples of q."""
    whole = KINDS[dimension.kind].whole
    step = dimension.step or 1.0
    count = math.floor((dimension.high - dimension.low) / step + 1e-9)
    top = dimension.low + count * step
    fits = _are_multiples(dimension.name, dimension.low, top, step)
    if logarithmic:
        if not fits:
            raise Unsupported(
                f"search space {dimension.name} is {dimension.kind}: AzureML draws multiples of q ({step:g}), and min "
                f"{dimension.low:g} is none",
                hint="begin at a multiple of q, or list the values as a choice",
            )
        # Optuna draws an intlog half a step beyond either end; a qloguniform of the hpo step is drawn within its bounds.
        low, high = (dimension.low - 0.5, top + 0.5) if whole else (dimension.low, min(dimension.high, top + step / 2))
        low, high = _inside(low, high, step)
        return _range("qloguniform", *_logarithms(low, high), _number(step))
    if whole and dimension.low == 0 and step == 1:
        return {"type": "randint", "upper": int(top) + 1}
    if fits:
        low, high = _inside(dimension.low - step / 2, top + step / 2, step)
        return _range("quniform", low, high, _number(step))
    if count + 1 > _MOST_CHOICES:
        raise Unsupported(
            f"search space {dimension.name} is {dimension.kind}: AzureML draws multiples of q ({step:g}), and its {count + 1} "
            f"points from {dimension.low:g} are none",
            hint="begin at a multiple of q",
        )
    points = [dimension.low + number * step for number in range(count + 1)]
    return _choice([int(point) if whole else float(f"{point:.12g}") for point in points])


def _are_multiples(name: str, low: float, top: float, step: float) -> bool:
    """Return whether AzureML's points, round(x / q) * q, are those of the grid, and its ends are values that the trainer takes."""
    for end in (low, top):
        point = round(end / step) * step
        if not math.isclose(point, end, rel_tol=1e-9, abs_tol=1e-12 * step):
            return False
        try:
            check_value(name, point)  # 19 * 0.05 is a little more than 0.95
        except StepError:
            return False
    return True


def _inside(low: float, high: float, step: float) -> tuple[float, float]:
    """Return bounds whose ends no longer round to the point beyond: a half rounds to the even neighbour."""
    return low + step * 1e-9, high - step * 1e-9


def _logarithms(low: float, high: float) -> tuple[float, float]:
    """Return natural logarithms whose exponentials do not leave [low, high]."""
    first, last = math.log(low), math.log(high)
    while math.exp(first) < low:
        first = math.nextafter(first, math.inf)
    while math.exp(last) > high:
        last = math.nextafter(last, -math.inf)
    return first, last


def _number(value: float) -> Any:
    return int(value) if value == int(value) else value


def _choice(values: list[Any]) -> dict[str, Any]:
    return {"type": "choice", "values": values}


def _range(kind: str, low: float, high: float, step: Any = None) -> dict[str, Any]:
    made = {"type": kind, "min_value": low, "max_value": high}
    return made if step is None else {**made, "q": step}

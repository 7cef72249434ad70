"""The search space: read from YAML values, checked before anything trains. Optuna is needed only to sample from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from components.kfp_io import StepError
from components.trainer.settings import HYPERPARAMETER_NAMES, WHOLE_NAMES, check_value, unknown

if TYPE_CHECKING:
    from optuna.trial import Trial

_NUMBERS = frozenset({"min", "max"})
_COMMON = frozenset({"type", "when"})
_MOST_POINTS = 10_000
"""Points of a finite space that are written out one by one."""


@dataclass(frozen=True)
class _Kind:
    """One type of the vocabulary: the keys it needs, those it may have, and what it draws."""

    needs: frozenset[str]
    may: frozenset[str] = frozenset()
    whole: bool = False
    log: bool = False


KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "choice": _Kind(frozenset({"values"})),
        "uniform": _Kind(_NUMBERS),
        "loguniform": _Kind(_NUMBERS, log=True),
        "quniform": _Kind(_NUMBERS | {"q"}),
        "qloguniform": _Kind(_NUMBERS | {"q"}, log=True),
        "int": _Kind(_NUMBERS, may=frozenset({"q"}), whole=True),
        "intlog": _Kind(_NUMBERS, whole=True, log=True),
    }
)


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter's values. `low` and `high` are the values themselves (never exponents), both included.

    `when`: it exists only where another dimension has one of these values: (its name, the values).
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    values: tuple[Any, ...] = ()
    when: tuple[str, tuple[Any, ...]] | None = None

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return whether it exists beside the `values` of the dimensions that it depends on."""
        return self.when is None or (self.when[0] in values and values[self.when[0]] in self.when[1])

    def points(self) -> list[Any] | None:
        """Return its values in the form that a trial of Optuna is given, None if there is no end of them."""
        kind = KINDS[self.kind]
        if self.kind == "choice":
            return list(self.values)
        if self.low == self.high:
            return [int(self.low) if kind.whole else self.low]
        if self.kind == "qloguniform" or not (kind.whole or self.step):
            return None  # a qloguniform is drawn as a number of a range, then rounded
        step = self.step or 1.0
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        if count > _MOST_POINTS:
            return None
        found = [self.low + number * step for number in range(count)]
        return [int(point) if kind.whole else float(f"{point:.12g}") for point in found]

    def sample(self, trial: Trial) -> Any:
        """Return this dimension's value in `trial`."""
        kind = KINDS[self.kind]
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, list(self.values))
        if kind.whole:
            step = int(self.step) if self.step else 1
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=kind.log)
        if self.kind == "qloguniform":
            # Optuna has no logarithmic float with a step: a choice of the grid's points would forget their order, so
            # the draw is rounded to the grid, within the bounds.
            drawn = trial.suggest_float(self.name, self.low, self.high, log=True)
            return self._to_grid(drawn)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=kind.log)

    def _to_grid(self, value: float) -> float:
        step = self.step or 1.0
        steps = round((value - self.low) / step)
        most = math.floor((self.high - self.low) / step + 1e-9)
        return float(f"{self.low + min(steps, most) * step:.12g}")


@dataclass(frozen=True)
class SearchSpace:
    """All dimensions, sorted by name but those that depend on one after it: the order in a file must not change a study."""

    dimensions: tuple[Dimension, ...]

    def sample(self, trial: Trial) -> dict[str, Any]:
        """Return the hyperparameters of `trial`: of the dimensions that exist in it."""
        found: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.exists(found):
                found[dimension.name] = dimension.sample(trial)
        return found

    def points(self) -> list[dict[str, Any]] | None:
        """Return every point of a finite space, None if the space has no end of them or more than 10,000."""
        found: list[dict[str, Any]] = [{}]
        for dimension in self.dimensions:
            values = dimension.points()
            if values is None:
                return None
            found = [
                {**point, **more}
                for point in found
                for more in ([{dimension.name: value} for value in values] if dimension.exists(point) else [{}])
            ]
            if len(found) > _MOST_POINTS:
                return None
        return found

    def check_finite(self) -> None:
        """Raise StepError naming a dimension unless a grid can have every point."""
        if self.points() is None:
            endless = next((item.name for item in self.dimensions if item.points() is None), None)
            raise StepError(
                f"sampler grid: {endless} has no end of values"
                if endless
                else f"sampler grid: the space has over {_MOST_POINTS:,} points",
                hint="give each dimension as choice, int, or quniform with a q",
            )


def parse_search_space(values: Any) -> SearchSpace:
    """Return the search space of `values`: `{name: {"type": ..., "min", "max", "q", "values", "when"}}`.

    Types: choice (values); uniform, loguniform, int, intlog (min, max); quniform, qloguniform (min, max, q); int takes
    q too. `when: {other: value or list of values}` makes a dimension exist only where the choice `other` has one of them.
    Raises StepError naming the dimension and the value, with the closest known word for a typo.
    """
    if not isinstance(values, Mapping) or not values:
        raise StepError(f"the search space must map at least one hyperparameter to its values, got {values!r}")
    return SearchSpace(_in_order([_dimension(str(name), values[name]) for name in sorted(values)]))


def _in_order(dimensions: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Return the dimensions so that each stands behind the one it depends on. Raises StepError for one that cannot exist."""
    by_name = {dimension.name: dimension for dimension in dimensions}
    for dimension in dimensions:
        if dimension.when is None:
            continue
        name, values = dimension.when
        if name not in by_name:
            raise unknown(f"dimension in when of search space {dimension.name}:", name, by_name)
        if by_name[name].kind != "choice":
            raise StepError(f"search space {dimension.name}: when names {name}, which is no choice")
        for value in values:
            if value not in by_name[name].values:
                raise StepError(
                    f"search space {dimension.name}: when says {name} {value!r}, which it never is",
                    hint=f"{name} is one of {', '.join(map(str, by_name[name].values))}",
                )
    found: list[Dimension] = []
    left = list(dimensions)
    while left:
        placed = {dimension.name for dimension in found}
        ready = next((item for item in left if item.when is None or item.when[0] in placed), None)
        if ready is None:
            raise StepError(f"search space {left[0].name}: when goes round in a circle")
        found.append(ready)
        left.remove(ready)
    return tuple(found)


def read_trial(values: Any, space: SearchSpace) -> dict[str, Any]:
    """Return one trial's hyperparameters as their types. Raises StepError unless they are those of `space`, each of them."""
    names = sorted(dimension.name for dimension in space.dimensions)
    if not isinstance(values, Mapping) or sorted(values) != names:
        raise StepError(f"a trial of {', '.join(names)} was given {values!r}")
    return {name: check_value(name, values[name]) for name in names}


def _dimension(name: str, given: Any) -> Dimension:
    if name not in HYPERPARAMETER_NAMES:
        raise unknown("hyperparameter in the search space", name, HYPERPARAMETER_NAMES)
    if not isinstance(given, Mapping):
        raise StepError(f"search space {name} must be a mapping with a type, got {given!r}")
    label = given.get("type")
    if not isinstance(label, str):
        raise StepError(f"search space {name} has no type", hint=f"types: {', '.join(KINDS)}")
    if label not in KINDS:
        raise unknown(f"type in search space {name}:", label, KINDS)
    kind = KINDS[label]
    allowed = kind.needs | kind.may
    for key in given:
        if key not in _COMMON and key not in allowed:
            raise unknown(f"key in search space {name} ({label})", str(key), sorted(allowed | {"when"}))
    for key in sorted(kind.needs):
        if key not in given:
            raise StepError(
                f"search space {name} is {label}, which needs {key!r}", hint=f"{label} takes {_list(allowed)}"
            )
    when = _condition(name, given["when"]) if "when" in given else None
    if label == "choice":
        return Dimension(name, label, values=_choices(name, given["values"]), when=when)
    return replace(_numeric(name, label, kind, given), when=when)


def _condition(name: str, given: Any) -> tuple[str, tuple[Any, ...]]:
    if not isinstance(given, Mapping) or len(given) != 1:
        raise StepError(f"search space {name}: when must map one other dimension to its values, got {given!r}")
    ((other, values),) = given.items()
    listed = values if isinstance(values, list) else [values]
    if not listed:
        raise StepError(f"search space {name}: when says no value of {other}")
    if other not in HYPERPARAMETER_NAMES:
        raise unknown(f"dimension in when of search space {name}:", str(other), HYPERPARAMETER_NAMES)
    return str(other), tuple(check_value(str(other), value) for value in listed)


def _choices(name: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list) or not given:
        raise StepError(f"search space {name}: values must be a list of at least one value, got {given!r}")
    values = tuple(check_value(name, value) for value in given)
    if len(set(values)) != len(values):
        raise StepError(f"search space {name}: values is {given!r}, in which one stands twice")
    return values


def _numeric(name: str, label: str, kind: _Kind, given: Mapping[str, Any]) -> Dimension:
    read = _whole if kind.whole else _number
    low, high = read(name, "min", given["min"]), read(name, "max", given["max"])
    if low > high:
        raise StepError(f"search space {name}: min {low:g} is greater than max {high:g}")
    if kind.log and low <= 0:
        hint = f"use {'int' if kind.whole else 'uniform'} for a range that reaches 0"
        raise StepError(f"search space {name} is {label}: min must be above 0, got {low:g}", hint=hint)
    step = None
    if "q" in given:
        step = read(name, "q", given["q"])
        if step <= 0 or step > high - low:
            raise StepError(f"search space {name}: q must be above 0 and at most max - min, got {step:g}")
    for bound in (low, high):
        check_value(name, bound)
    if name in WHOLE_NAMES and not kind.whole:
        raise StepError(
            f"search space {name} is {label}, but {name} is a whole number", hint="use int, intlog or choice"
        )
    return Dimension(name, label, low, high, step)


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise StepError(f"search space {name}: {key} must be a number, got {value!r}")
    return float(value)


def _whole(name: str, key: str, value: Any) -> float:
    number = _number(name, key, value)
    if number != int(number):
        raise StepError(f"search space {name}: {key} must be a whole number, got {value!r}")
    return number


def _list(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys))


def canonical(space: SearchSpace) -> list[list[Any]]:
    """Return `space` as JSON values that are the same for the same space, for the study's identity."""
    return [
        [dimension.name, dimension.kind, dimension.low, dimension.high, dimension.step, list(dimension.values)]
        + ([dimension.when[0], list(dimension.when[1])] if dimension.when else [])
        for dimension in space.dimensions
    ]

"""The search space: read from YAML values, checked before anything trains. Optuna is needed only to sample from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from components.kfp_io import StepError
from components.trainer.settings import HYPERPARAMETER_NAMES, WHOLE_NAMES, check_value, unknown

if TYPE_CHECKING:
    from optuna.trial import Trial

_NUMBERS = frozenset({"min", "max"})


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
    """One hyperparameter's values. `low` and `high` are the values themselves (never exponents), both included."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    values: tuple[Any, ...] = ()

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
    """All dimensions, sorted by name: the order in a file must not change a study."""

    dimensions: tuple[Dimension, ...]

    def sample(self, trial: Trial) -> dict[str, Any]:
        """Return the hyperparameters of `trial`."""
        return {dimension.name: dimension.sample(trial) for dimension in self.dimensions}


def parse_search_space(values: Any) -> SearchSpace:
    """Return the search space of `values`: `{name: {"type": ..., "min", "max", "q", "values"}}`.

    Types: choice (values); uniform, loguniform, int, intlog (min, max); quniform, qloguniform (min, max, q); int takes
    q too. Raises StepError naming the dimension and the value, with the closest known word for a typo.
    """
    if not isinstance(values, Mapping) or not values:
        raise StepError(f"the search space must map at least one hyperparameter to its values, got {values!r}")
    return SearchSpace(tuple(_dimension(str(name), values[name]) for name in sorted(values)))


def read_trial(values: Any, space: SearchSpace) -> dict[str, Any]:
    """Return one trial's hyperparameters as their types. Raises StepError unless they are those of `space`, each of them."""
    names = [dimension.name for dimension in space.dimensions]
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
        if key != "type" and key not in allowed:
            raise unknown(f"key in search space {name} ({label})", str(key), sorted(allowed))
    for key in sorted(kind.needs):
        if key not in given:
            raise StepError(
                f"search space {name} is {label}, which needs {key!r}", hint=f"{label} takes {_list(allowed)}"
            )
    if label == "choice":
        return Dimension(name, label, values=_choices(name, given["values"]))
    return _numeric(name, label, kind, given)


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
        for dimension in space.dimensions
    ]

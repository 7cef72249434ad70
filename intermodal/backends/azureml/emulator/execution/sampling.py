"""What a sweep tries: the search space, as nodes and jobs write it, and how values are drawn from it.

Source: the documentation of AzureML's search space. The bounds of `loguniform` and its kin are exponents (of e), not values.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intermodal.errors import BadInput, Unsupported

Point = dict[str, Any]
"""Hyperparameter -> value."""

_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "choice": ("values",),
    "randint": ("upper",),
    "uniform": ("min_value", "max_value"),
    "loguniform": ("min_value", "max_value"),
    "quniform": ("min_value", "max_value", "q"),
    "qloguniform": ("min_value", "max_value", "q"),
    "normal": ("mu", "sigma"),
    "lognormal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"),
    "qlognormal": ("mu", "sigma", "q"),
}


@dataclass(frozen=True)
class Distribution:
    """One hyperparameter's. `arguments` are those of `_ARGUMENTS`, in that order."""

    kind: str
    arguments: tuple[Any, ...]

    @property
    def values(self) -> Sequence[Any]:
        """The values of a choice."""
        found: Sequence[Any] = self.arguments[0]
        return found

    def draw(self, rng: random.Random) -> Any:
        if self.kind == "choice":
            return rng.choice(self.values)
        if self.kind == "randint":
            return rng.randrange(int(self.arguments[0]))
        first, second, *q = map(float, self.arguments)
        value = rng.gauss(first, second) if "normal" in self.kind else rng.uniform(first, second)
        if "log" in self.kind:
            value = math.exp(value)
        return round(value / q[0]) * q[0] if q else value


def read_space(written: Mapping[str, Any], place: str) -> dict[str, Distribution]:
    """Read a search space: `{"type": "uniform", "min_value": 0, ...}` or `["uniform", [0, 1]]` each. Raises BadInput, Unsupported."""
    space = {name: _distribution(item, f"{place}: search space of {name!r}") for name, item in written.items()}
    if not space:
        raise BadInput(f"{place}: has no search space")
    return space


def _distribution(written: Any, place: str) -> Distribution:
    if isinstance(written, Mapping):
        kind = str(written.get("type", ""))
        names = _ARGUMENTS.get(kind, ())
        given = [written.get(name) for name in names]
    elif isinstance(written, Sequence) and len(written) == 2 and not isinstance(written, str):
        kind, given = str(written[0]), list(written[1])
        names = _ARGUMENTS.get(kind, ())
    else:
        raise BadInput(f"{place}: cannot be read: {written!r}")
    if not names:
        raise BadInput(f"{place}: {kind!r} is no distribution", hint=", ".join(_ARGUMENTS))
    if len(given) != len(names) or None in given:
        raise BadInput(f"{place}: {kind} needs {', '.join(names)}")
    if kind == "choice":
        values = given[0] if isinstance(given[0], list) else [given[0]]
        if any(isinstance(value, Mapping) for value in values):
            raise Unsupported(f"{place}: a choice of further search spaces, which the emulator does not draw from")
        if not values:
            raise BadInput(f"{place}: has nothing to choose from")
        given = [tuple(values)]
    return Distribution(kind, tuple(given))


def points(space: Mapping[str, Distribution], algorithm: str, seed: int | None, place: str) -> Iterator[Point]:
    """Yield what to try: without end if random, each once for a grid. `bayesian` is drawn as random. Raises Unsupported."""
    if algorithm == "grid":
        other = next((name for name, item in space.items() if item.kind != "choice"), None)
        if other is not None:
            raise Unsupported(f"{place}: grid sampling needs choices only, and {other!r} is {space[other].kind}")
        for values in itertools.product(*(item.values for item in space.values())):
            yield dict(zip(space, values, strict=True))
        return
    if algorithm not in ("random", "bayesian"):
        raise Unsupported(f"{place}: sampling algorithm {algorithm!r} is not known")
    rng = random.Random(seed)
    while True:
        yield {name: item.draw(rng) for name, item in space.items()}

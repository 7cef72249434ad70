"""What a look-up asks for, as conditions: each can be put to the index (SQL), to the server (MLflow's filter), and to one run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from intermodal.errors import BadInput
from intermodal.tracking import schema
from intermodal.tracking.index import IndexedRun, bare_digest
from intermodal.tracking.names import identity_in

What = Literal["identity", "produced", "consumed", "field", "param", "tag", "metric"]

FIELDS = {
    "kind": schema.KIND,
    "run": schema.RUN,
    "task": schema.TASK,
    "state": schema.STATE,
    "pipeline": schema.PIPELINE,
    "component": schema.COMPONENT,
}
"""Column of the index -> tag."""
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_METRIC = re.compile(r"(.+?)\s*(>=|<=|!=|>|<|=)\s*([^<>=!]+)")
_LEAST_DIGITS, _ALL_DIGITS = 8, 64


@dataclass(frozen=True)
class Condition:
    """One thing that the run must be. `operator` is `=` for all but metrics; of an identity and of digests the start is enough."""

    what: What
    name: str
    value: Any
    operator: str = "="

    def __str__(self) -> str:
        shown = self.value[:16] if self.what in ("identity", "produced", "consumed") else self.value
        return f"{self.name} {self.operator if self.what != 'identity' else 'is'} {shown}"

    def holds(self, run: IndexedRun) -> bool:
        actual = self.actual(run)
        if self.what == "identity":
            return str(actual or "").startswith(self.value)
        if self.what in ("produced", "consumed"):
            return any(digest.startswith(self.value) for digest in actual)
        if self.what == "metric":
            return isinstance(actual, int | float) and _COMPARE[self.operator](actual, self.value)
        return bool(actual == self.value)

    def actual(self, run: IndexedRun) -> Any:
        """Return what the run has in that place, None if nothing."""
        if self.what in ("produced", "consumed"):
            direction = "output" if self.what == "produced" else "input"
            return [digest for digests in run.artifacts(direction).values() for digest in digests]
        if self.what == "param":
            return run.params.get(self.name)
        if self.what == "metric":
            return run.metrics.get(self.name)
        tag = {"identity": schema.FINGERPRINT, "field": FIELDS.get(self.name, ""), "tag": self.name}[self.what]
        return run.tags.get(tag)

    def sql(self) -> tuple[str, list[Any]]:
        """Return an expression over the table `runs`, and its values."""
        if self.what == "identity":
            return "fingerprint >= ? AND fingerprint < ?", [self.value, self.value + "g"]  # hex digits end before g
        if self.what in ("produced", "consumed"):
            direction = "output" if self.what == "produced" else "input"
            inner = "SELECT run FROM artifacts WHERE digest >= ? AND digest < ? AND direction = ?"
            return f"id IN ({inner})", [self.value, self.value + "g", direction]
        if self.what == "field":
            return f"{self.name} = ?", [self.value]
        place = f"json_extract(document, '$.{self.what}s.' || ?)"
        path = '"' + self.name + '"'
        if self.what == "metric":
            known = f"typeof({place}) IN ('real', 'integer')"
            return f"{known} AND {place} {self.operator} ?", [path, path, self.value]
        return f"{place} = ?", [path, self.value]

    def filter(self) -> str | None:
        """Return it as MLflow's filter has it, None if it cannot say it (quotes of both kinds)."""
        if self.what == "metric":
            return f"metrics.`{self.name}` {self.operator} {self.value!r}" if "`" not in self.name else None
        if self.what == "identity":
            comparison = f"= '{self.value}'" if len(self.value) == _ALL_DIGITS else f"LIKE '{self.value}%'"
            return f"tags.`{schema.FINGERPRINT}` {comparison}"
        if self.what in ("produced", "consumed"):
            tag = schema.OUTPUTS if self.what == "produced" else schema.INPUTS
            return f"tags.`{tag}` LIKE '%{self.value}%'"
        quote = next((mark for mark in ("'", '"') if mark not in self.value), None)
        if quote is None or "`" in self.name:
            return None
        place = f"params.`{self.name}`" if self.what == "param" else f"tags.`{FIELDS.get(self.name, self.name)}`"
        return f"{place} = {quote}{self.value}{quote}"


def conditions(
    identity: str | None = None,
    *,
    produced: str | None = None,
    consumed: str | None = None,
    fields: Mapping[str, str | None] | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Sequence[str] = (),
) -> list[Condition]:
    """Return the conditions that are asked for. Raises BadInput for one that cannot be read."""
    found: list[Condition] = []
    if identity is not None:
        found.append(Condition("identity", "identity", _identity(identity)))
    if produced is not None:
        found.append(Condition("produced", "produced", _digest(produced)))
    if consumed is not None:
        found.append(Condition("consumed", "consumed", _digest(consumed)))
    found += [Condition("field", name, value) for name, value in (fields or {}).items() if value is not None]
    found += [Condition("param", name, _text(name, value)) for name, value in (params or {}).items()]
    found += [Condition("tag", name, _text(name, value)) for name, value in (tags or {}).items()]
    return found + [_metric(text) for text in metrics]


def _identity(given: str) -> str:
    """Return the hex digits of a fingerprint, its start, or of a name that ends with it."""
    text = identity_in(given) or given.lower().removeprefix("sha256:")
    return _digits(
        text, f"identity {given!r}", "a fingerprint, its start of 8 digits or more, or a run's name that ends with it"
    )


def _digest(given: str) -> str:
    return _digits(
        bare_digest(given), f"digest {given!r}", "the sha256 of an artifact, or its start of 8 digits or more"
    )


def _digits(text: str, what: str, expected: str) -> str:
    if not re.fullmatch(rf"[0-9a-f]{{{_LEAST_DIGITS},64}}", text):
        raise BadInput(f"{what}: expected {expected}")
    return text


def _text(name: str, value: Any) -> str:
    """Return a value as MLflow keeps it: text. A flag and a number are what the tracking sends of them."""
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    if '"' in name:
        raise BadInput(f"{name!r}: a name with a quote cannot be looked for")
    return text


def _metric(text: str) -> Condition:
    found = _METRIC.fullmatch(text.strip())
    try:
        value = float(found.group(3)) if found else math.nan
    except ValueError:
        value = math.nan
    if found is None or math.isnan(value) or math.isinf(value) or '"' in found.group(1):
        raise BadInput(
            f"metric {text!r}: expected a comparison with a number", hint="such as 'validation_macro_f1 >= 0.9'"
        )
    return Condition("metric", found.group(1), value, found.group(2))

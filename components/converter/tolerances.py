"""What an export must keep of the trained model. Standard library only, so that the host can check it before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from components.kfp_io import StepError


@dataclass(frozen=True)
class Tolerances:
    """fp32_logits: greatest absolute difference of a logit. *_agreement: least share of validation tokens with the same label.
    *_macro_f1: greatest absolute change of validation macro-F1."""

    fp32_logits: float = 1e-3
    fp32_agreement: float = 0.999
    fp32_macro_f1: float = 0.001
    int8_agreement: float = 0.97
    int8_macro_f1: float = 0.02


def parse_tolerances(values: Any) -> Tolerances:
    """Return the tolerances of a JSON object. Raises StepError for an unknown key (with the closest) or no number."""
    if not isinstance(values, Mapping):
        raise StepError(f"--gate must be a JSON object, got {values!r}")
    known = [field.name for field in fields(Tolerances)]
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise StepError(f"unknown tolerance {name!r} of the gate", hint=hint)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise StepError(f"tolerance {name} of the gate is {value!r}, it must be a number")
    return Tolerances(**{**asdict(Tolerances()), **values})

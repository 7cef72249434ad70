"""Values in literal inputs: AzureML pastes them as text into a shell command, and drops empty ones.

Text, lists and structs are percent-encoded (plain words and addresses stay readable), `%` is the empty text and `%-` a null:
neither can come out of the encoding. Numbers and truth values use AzureML's own types. Only the standard library: the
launcher decodes with this very code.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, unquote

_SAFE = "/:._-~,@+="
_EMPTY, _NULL = "%", "%-"

TYPES = {"NUMBER_INTEGER": "integer", "NUMBER_DOUBLE": "number", "BOOLEAN": "boolean"}
"""KFP's parameter types that AzureML has itself; all others are text."""


def encode(value: Any, kind: str) -> Any:
    """Return the literal of a parameter of type `kind` (KFP's name); null and text are always text."""
    if value is None:
        return _NULL
    if kind in TYPES:
        return value
    text = (
        value if isinstance(value, str) and kind == "STRING" else json.dumps(value, ensure_ascii=False, sort_keys=True)
    )
    return quote(text, safe=_SAFE) or _EMPTY


def decode(text: str, kind: str) -> Any:
    """Return the value of a literal as it stands in a command. Raises ValueError if it is no `kind`."""
    if text == _NULL:
        return None
    if kind == "NUMBER_INTEGER":
        return int(text)
    if kind == "NUMBER_DOUBLE":
        number = float(text)
        return int(number) if number.is_integer() else number
    if kind == "BOOLEAN":
        return {"true": True, "false": False}[text.lower()]
    written = "" if text == _EMPTY else unquote(text)
    return written if kind == "STRING" else json.loads(written)

"""JSON and YAML from outside, read with bounds: whoever wrote it cannot make this process run out of stack, memory or time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from intermodal.errors import BadInput

MAX_DEPTH = 100
"""Lists and objects inside one another at most; protobuf, in which KFP holds its values, takes no more."""
MAX_VALUES = 2_000_000
"""Values in one document at most. A few lines of YAML can stand for billions (aliases of aliases)."""
MAX_BYTES = 64 * 2**20
"""Size of a YAML file at most."""


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError if it is none, or over a bound (see `check_value`)."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels") from error
    check_value(value)
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def check_value(value: Any) -> None:
    """Raise ValueError for a value that JSON in UTF-8 cannot hold, and for one with more levels or values than the bounds."""
    rest = [(value, 1)]
    seen = 0
    while rest:
        item, depth = rest.pop()
        seen += 1
        if seen + len(rest) > MAX_VALUES:
            raise ValueError(f"holds more than {MAX_VALUES} values")
        if isinstance(item, (dict, list)):
            if depth > MAX_DEPTH:
                raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
            if isinstance(item, dict):
                for key in item:
                    _check_key(key)
            rest.extend((child, depth + 1) for child in (item.values() if isinstance(item, dict) else item))
        else:
            _check_scalar(item)


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise ValueError(f"has the key {key!r}, which is not text")
    _check_scalar(key)


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        if not value.isascii():
            _check_unicode(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"holds {value}, which is no number of JSON")
    elif value is not None and not isinstance(value, int):
        raise ValueError(f"holds a {type(value).__name__}, which JSON does not know")


def _check_unicode(value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"holds the character {value[error.start]!a}, which is no text") from error


def read_yaml(path: Path, loader: Any = None) -> list[Any]:
    """Return the documents of a YAML (or JSON) file as plain values. Raises BadInput naming the file and the place.

    `loader` is a class of PyYAML; the default reads numbers as the KFP SDK writes them. Dates stay text.
    """
    import yaml

    chosen = loader or _plain_loader()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path}: {path.stat().st_size} bytes are too many (at most {MAX_BYTES})")
        documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=chosen))
        check_value(documents)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except RecursionError as error:
        raise BadInput(f"{path}: is nested deeper than {MAX_DEPTH} levels") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise BadInput(f"{path}: is not YAML{where}: {getattr(error, 'problem', error)}") from error
    except (ValueError, TypeError) as error:  # TypeError: a key that is a list or an object
        raise BadInput(f"{path}: {error}") from error
    return documents


def _plain_loader() -> Any:
    import yaml

    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in fast.yaml_implicit_resolvers.items()
    }
    return type("PlainLoader", (fast,), {"yaml_implicit_resolvers": resolvers})

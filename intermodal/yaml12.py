"""A safe YAML loader that reads numbers as YAML 1.2 and as people do: `2e-5` is a number, not text."""

from __future__ import annotations

import re

import yaml


class Loader(yaml.SafeLoader):
    """SafeLoader with the float rule of the YAML 1.2 core schema (PyYAML wants a dot in every float)."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)

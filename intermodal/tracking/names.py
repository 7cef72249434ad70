"""Names of runs and folders, made of what they are: a few readable words, then the start of the identity.

    trainer-seed13-threads2-bs4-dropout0.00343-lr0.00145-wd0.00664-3f2a9c1b4d5e6f70

Nothing else goes into a name: no counter, no clock, no machine, no register of names that are taken. So the same work has the same name
everywhere, and other work has another one: the identity of a task counts its tuned hyperparameters, the content of its data, the digest of
its image and its seed (`intermodal.engine.fingerprint`). The words are for the eye alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from intermodal.spec.document import canonical_json, sha256_text

IDENTITY_DIGITS = 16
"""Hex digits of the identity in a name: that two among a million share them has a chance of 3 in 10^8."""
_WHAT = 40
_WORDS = 72
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_-]{0,23}")
_HASHED = re.compile(r"-[0-9a-f]{16}$")
_IN_NAME = re.compile(rf"(?:^|[-/])([0-9a-f]{{{IDENTITY_DIGITS}}})$")


def run_name(what: str, identity: str, values: Mapping[str, Any] | None = None) -> str:
    """Return the name of a run of `what` (a component, a pipeline, `trial`) with this identity (sha256, hex).

    `values` are what to show of its parameters, at most 72 characters in whole pieces: numbers and flags with their (shortened) name, plain
    words as they are; scalars first, then what is one level inside an object, each in the order of names. A name is made of `a-z 0-9 . -`,
    so it is a file name on every system. Raises ValueError for an identity that is no sha256.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", identity):
        raise ValueError(f"{identity!r} is no sha256")
    words = [_slug(what)[:_WHAT].strip("-.") or "run"]
    room = _WORDS
    for word in _words(values or {}):
        if len(word) + 1 > room:
            break
        words.append(word)
        room -= len(word) + 1
    return "-".join([*words, identity[:IDENTITY_DIGITS]])


def run_path(pipeline: str, what: str, identity: str, values: Mapping[str, Any] | None = None) -> PurePosixPath:
    """Return the relative folder of a run's results: pipeline, component, name. Raises ValueError as `run_name` does."""
    return PurePosixPath(_folder(pipeline), _folder(what), run_name(what, identity, values))


def identity_in(name: str) -> str:
    """Return the start of the identity that a name of `run_name` (or a path of `run_path`) ends with, empty if it does not."""
    found = _IN_NAME.search(name)
    return found.group(1) if found else ""


def pipeline_identity(pipeline_digest: str, inputs: Mapping[str, Any], images: Mapping[str, str]) -> str:
    """Return the identity of a pipeline run: the pipeline's digest, its resolved inputs (artifacts as digests), image -> content digest."""
    return sha256_text(canonical_json(["pipeline", pipeline_digest, dict(inputs), dict(images)]))


def trial_identity(study: str, image: str, hyperparameters: Mapping[str, Any]) -> str:
    """Return the identity of a trial: that of its study (data, space, seed), the content digest of the image, and what it tried.

    Whichever of several workers ran it, it is the same.
    """
    return sha256_text(canonical_json(["trial", study, image, dict(hyperparameters)]))


def _words(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the readable pieces, the same for equal values in whatever order they come."""
    ordered = sorted(values.items())
    flat = [item for item in ordered if not isinstance(item[1], Mapping)]
    for _, inner in ordered:
        flat += sorted(inner.items()) if isinstance(inner, Mapping) else []
    for key, value in flat:
        if word := _word(key, value):
            yield word


def _word(key: str, value: Any) -> str:
    """Return a value as one piece of a name; empty for what says nothing in a few characters."""
    if isinstance(value, bool):
        return _short(key) if value else ""
    if isinstance(value, int | float):
        return f"{_short(key)}{value:.4g}".replace("+", "") if isinstance(value, float) else f"{_short(key)}{value}"
    return _slug(value) if isinstance(value, str) and _PLAIN.fullmatch(value) else ""


def _short(key: str) -> str:
    """Return a parameter's name in short: the initials of several words, else the word."""
    parts = [part for part in re.split(r"[^a-z0-9]+", key.lower()) if part]
    return "".join(part[0] for part in parts) if len(parts) > 1 else "".join(parts)[:12]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _folder(name: str) -> str:
    """Return a name as a folder; one that cannot be kept as it is gets a hash, so that different ones stay different."""
    slug = _slug(name)
    if slug and slug == name and len(slug) <= _WHAT and not _HASHED.search(slug):
        return slug
    return f"{slug[:_WHAT].strip('-.') or 'run'}-{sha256_text(name)[:16]}"

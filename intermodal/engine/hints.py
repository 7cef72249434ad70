"""What a step's log suggests to whoever mends the pipeline. It never decides how the step ended."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from intermodal.engine.failure import Failure, FailureClass

_TAIL = 64 * 1024
_UNREACHABLE = re.compile(
    rb"Temporary failure in name resolution|Name or service not known|Could not resolve host|Network is unreachable"
    rb"|No address associated with hostname|nodename nor servname provided|Failed to resolve"
)


def suggest_network(failure: Failure, log: Path, component: str) -> Failure:
    """Return the failure of a step that has no network, saying so if the end of its log shows that it wanted one."""
    if failure.kind is not FailureClass.USER_CODE or not _UNREACHABLE.search(_tail(log)):
        return failure
    hint = f"it has no network, and its log says that it wanted one (--network {component}=bridge)"
    return replace(failure, message=f"{failure.message}; {hint}")


def _tail(log: Path) -> bytes:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            return stream.read()
    except OSError:
        return b""

"""Faults on demand: what a real service does on a bad day, at the requests that a list names.

    [{"method": "PUT", "path": "/jobs/", "fault": "throttle", "times": 2, "retry_after": 1}]

Each fault is used up by as many requests as `times` says, then the service is well again.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from intermodal.backends.azureml.emulator.answers import Refused, Request
from intermodal.errors import BadInput

Kind = Literal["throttle", "unavailable", "drop", "late-drop", "slow", "expired-token", "half-upload"]


class Fault(BaseModel):
    """One fault and when it happens.

    throttle: 429 with Retry-After. unavailable: 503. drop: the connection ends without an answer, nothing was done. late-drop: the
    same, but the request was carried out. slow: the answer comes `seconds` late. expired-token: 401, as for a token that has
    ended. half-upload: of code, whose place startPendingUpload says: the storage breaks off after `bytes` bytes, `times` times.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: Kind
    path: str = ""
    """A regular expression that is looked for in the request's path."""
    method: str = ""
    """A method; empty for any."""
    times: int = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    """How many such requests are answered well first."""
    retry_after: int = 1
    seconds: float = 1.0
    bytes: int = Field(default=10_000, ge=1)

    def concerns(self, request: Request) -> bool:
        if self.fault == "half-upload" and not request.path.endswith("/startPendingUpload"):
            return False
        return self.method in ("", request.method) and re.search(self.path, request.path) is not None


def read_faults(path: Path) -> list[Fault]:
    """Read a JSON list of faults. Raises BadInput."""
    try:
        faults = TypeAdapter(list[Fault]).validate_json(path.read_bytes())
        for fault in faults:
            re.compile(fault.path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {where}: {first['msg']}") from error
    except re.error as error:
        raise BadInput(f"{path}: {error.pattern!r} is not a regular expression: {error}") from error
    return faults


class Faults:
    """The faults that are still to happen."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._waiting = [_Waiting(fault) for fault in faults]
        self.happened: list[tuple[Kind, str, str]] = []
        """Fault, method and path of the request, in order."""

    def plan(self, *faults: Fault) -> None:
        with self._lock:
            self._waiting.extend(map(_Waiting, faults))

    def next(self, request: Request) -> Fault | None:
        """Return the fault that befalls a request, and count it."""
        with self._lock:
            for waiting in self._waiting:
                if waiting.fault.concerns(request) and waiting.strikes():
                    self.happened.append((waiting.fault.fault, request.method, request.path))
                    return waiting.fault
        return None


class _Waiting:
    def __init__(self, fault: Fault) -> None:
        # A half upload is one request's, however often its storage breaks.
        self.fault = fault
        self._times = 1 if fault.fault == "half-upload" else fault.times
        self._seen = 0

    def strikes(self) -> bool:
        self._seen += 1
        return self.fault.after < self._seen <= self.fault.after + self._times


def strike(fault: Fault) -> None:
    """Do what can be done before a request is carried out. Raises Refused."""
    if fault.fault == "slow":
        time.sleep(fault.seconds)
    elif fault.fault == "throttle":
        raise Refused(
            429,
            "TooManyRequests",
            "The request is being throttled as the limit has been reached for operation type.",
            headers={"Retry-After": str(fault.retry_after)},
        )
    elif fault.fault == "unavailable":
        raise Refused(503, "ServiceUnavailable", "The service is unavailable.")
    elif fault.fault == "expired-token":
        raise Refused(
            401,
            "ExpiredAuthenticationToken",
            "The access token expiry UTC time is earlier than current UTC time.",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )

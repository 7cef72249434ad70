"""What a request is, what it may be answered with, and the forms that AzureML's services give to errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from intermodal.backends.azureml.emulator.identity import REGION

Service = Literal["arm", "history", "mlflow"]
"""Which service answers: each has errors of a form of its own."""


@dataclass(frozen=True)
class Request:
    """One request, read whole."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    names: Mapping[str, str] = field(default_factory=dict)
    """What the route's pattern named in the path."""
    run: str = ""
    """The run that the token is bound to; empty for a user's."""

    def json(self) -> Any:
        """Return the body's JSON, an empty object for no body. Raises Refused."""
        try:
            return json.loads(self.body) if self.body else {}
        except ValueError as error:
            raise Refused(400, "BadRequest", f"The request's body is not JSON: {error}") from error

    def object(self) -> dict[str, Any]:
        """Return the body, which must be a JSON object. Raises Refused."""
        found = self.json()
        if not isinstance(found, dict):
            raise Refused(400, "BadRequest", "The request's body must be a JSON object")
        return found


@dataclass(frozen=True)
class Answer:
    """A status, a document (JSON unless bytes) and headers."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A request that is answered with an error. `target` names the field that is wrong."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.headers = dict(headers or {})


def not_found(what: str) -> Refused:
    """What is said of a thing that is not there."""
    return Refused(404, "UserError", f"Not found: {what}")


def refusal(error: Refused, service: Service) -> Answer:
    """Return the answer in the form of the service."""
    if service == "mlflow":
        return Answer(_mlflow_error(error), error.status, error.headers)
    if service == "history":
        return Answer(_history_error(error), error.status, error.headers)
    return Answer({"error": _arm_error(error)}, error.status, error.headers)


def _arm_error(error: Refused) -> dict[str, Any]:
    """https://github.com/Azure/azure-resource-manager-rpc/blob/master/v1.0/common-api-details.md#error-response-content"""
    correlation = {"operation": uuid.uuid4().hex, "request": uuid.uuid4().hex[:16]}
    return {
        "code": error.code,
        "message": error.message,
        "target": error.target,
        "details": [],
        "additionalInfo": [
            {"type": "ComponentName", "info": {"value": "managementfrontend"}},
            {"type": "Correlation", "info": {"value": correlation}},
            {"type": "Environment", "info": {"value": REGION}},
            {"type": "Time", "info": {"value": timestamp(datetime.now(UTC).timestamp())}},
        ],
    }


def _history_error(error: Refused) -> dict[str, Any]:
    inner = {"code": "NotFound", "innerError": None} if error.status == 404 else None
    return {
        "error": {
            "code": "UserError" if error.status < 500 else "ServiceError",
            "message": error.message,
            "target": error.target,
            "details": [],
            "innerError": inner,
        },
        "correlation": {"operation": uuid.uuid4().hex, "request": uuid.uuid4().hex[:16]},
        "environment": REGION,
        "location": REGION,
        "time": timestamp(datetime.now(UTC).timestamp()),
        "componentName": "run-history",
    }


def _mlflow_error(error: Refused) -> dict[str, Any]:
    """The codes of mlflow.protos.databricks_pb2.ErrorCode."""
    codes = {400: "INVALID_PARAMETER_VALUE", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
    codes |= {404: "RESOURCE_DOES_NOT_EXIST", 409: "RESOURCE_ALREADY_EXISTS", 429: "REQUEST_LIMIT_EXCEEDED"}
    codes |= {503: "TEMPORARILY_UNAVAILABLE"}
    return {"error_code": codes.get(error.status, "INTERNAL_ERROR"), "message": error.message}


def timestamp(seconds: float) -> str:
    """Return a time as ARM writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

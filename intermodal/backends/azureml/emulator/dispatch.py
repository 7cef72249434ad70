"""From a request to its handler: who may ask, which service answers, and what befalls it on the way."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import replace

from intermodal.backends.azureml.emulator import assets, history, jobs, mlflow, workspace
from intermodal.backends.azureml.emulator.answers import Answer, Refused, Request, Service, refusal
from intermodal.backends.azureml.emulator.faults import Fault, Faults, strike
from intermodal.backends.azureml.emulator.identity import AML_RESOURCE, MANAGEMENT, PROVIDER
from intermodal.backends.azureml.emulator.relay import BreakingRelay
from intermodal.backends.azureml.emulator.tokens import BadToken, check_token
from intermodal.backends.azureml.emulator.workspace import Handler, Workspace

VERSIONS = frozenset({
    "2022-02-01-preview", "2022-05-01", "2022-10-01", "2022-10-01-preview", "2023-02-01-preview", "2023-04-01",
    "2023-04-01-preview", "2023-06-01-preview", "2023-08-01-preview", "2023-10-01", "2024-01-01-preview",
    "2024-04-01-preview", "2024-07-01-preview", "2024-10-01-preview", "2025-01-01-preview", "2025-12-01",
})  # fmt: skip
"""Versions of the API that azure-ai-ml 1.28 to 1.35 speaks."""
_SCOPE = r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/(?P<provider>[^/]+)"
_WORKSPACE = re.compile(_SCOPE + r"/workspaces/(?P<workspace>[^/]+)(?P<rest>/.*)?", re.IGNORECASE)
_PREFIXES: tuple[tuple[str, Service], ...] = (
    ("/history/v1.0", "history"),
    ("/data/v1.0", "history"),
    ("/modelregistry/v1.0", "history"),
    ("/mlflow/v1.0", "mlflow"),
    ("/mlflow/v2.0", "mlflow"),
    ("", "arm"),
)
_RESULT = re.compile(
    r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/mfeOperationResults/jc:[^:]+:(?P<name>[^/]+)"
)
_TABLES: dict[str, Iterable[tuple[str, str, Handler]]] = {
    "": (*workspace.ROUTES, *assets.ROUTES, *jobs.ROUTES),
    "/history/v1.0": history.ROUTES,
    "/data/v1.0": history.RESOLVERS,
    "/modelregistry/v1.0": history.RESOLVERS,
    "/mlflow/v1.0": mlflow.ROUTES,
    "/mlflow/v2.0": mlflow.ROUTES,
}


class Dispatcher:
    """Answers every request; called from many threads."""

    def __init__(self, workspace: Workspace, faults: Faults) -> None:
        self._workspace = workspace
        self._faults = faults
        self._relays: list[BreakingRelay] = []
        self._routes = {
            prefix: [(method, re.compile(pattern), handler) for method, pattern, handler in routes]
            for prefix, routes in _TABLES.items()
        }

    def __call__(self, request: Request) -> Answer | None:
        """Return the answer; None if the connection shall be dropped instead."""
        prefix, service = next(entry for entry in _PREFIXES if request.path.startswith(entry[0]))
        try:
            fault = self._faults.next(request)
            if fault is not None and fault.fault == "drop":
                return None
            if fault is not None:
                strike(fault)
            answer = self._answer(request, prefix, service)
        except Refused as refused:
            return refusal(refused, service)
        except Exception as error:  # noqa: BLE001 - a defect here must not look like a broken connection
            traceback.print_exception(error, file=sys.stderr)
            return refusal(Refused(500, "InternalServerError", f"a defect of the emulator: {error!r}"), service)
        if fault is not None and fault.fault == "half-upload":
            return self._half(answer, fault)
        return None if fault is not None and fault.fault == "late-drop" else answer

    def close(self) -> None:
        for relay in self._relays:
            relay.close()

    def _half(self, answer: Answer, fault: Fault) -> Answer:
        """Lead an upload to a way to the storage that breaks."""
        origin = self._workspace.blobs.url.removesuffix(f"/{self._workspace.identity.account}")
        relay = BreakingRelay(int(origin.rpartition(":")[2]), fault.bytes, fault.times)
        self._relays.append(relay)
        place = answer.body["blobReferenceForConsumption"]
        signed = place["credential"]["sasUri"].replace(origin, f"http://127.0.0.1:{relay.port}")
        credential = {**place["credential"], "sasUri": signed}
        return Answer(
            {**answer.body, "blobReferenceForConsumption": {**place, "credential": credential}}, answer.status
        )

    def _answer(self, request: Request, prefix: str, service: Service) -> Answer:
        if request.path == f"/discovery/workspaces/{self._workspace.identity.id}":
            return workspace.discovery(self._workspace, request)
        request = self._authenticated(request, service)
        if service == "arm":
            _check_version(request)
            if found := _RESULT.fullmatch(request.path):
                return jobs.operation_result(self._workspace, found["name"])
        rest = self._below_workspace(request.path.removeprefix(prefix))
        for method, pattern, handler in self._routes[prefix]:
            if method == request.method and (found := pattern.fullmatch(rest)):
                return handler(self._workspace, replace(request, names=found.groupdict()))
        raise Refused(
            404, "NotFound", f"The emulator does not have {request.method} {request.path.removeprefix(prefix)}"
        )

    def _authenticated(self, request: Request, service: Service) -> Request:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Refused(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        try:
            claims = check_token(self._workspace.identity, token, {self._workspace.address, AML_RESOURCE, MANAGEMENT})
        except BadToken as error:
            code = "ExpiredAuthenticationToken" if "expiry" in str(error) else "InvalidAuthenticationToken"
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise Refused(401, code, str(error), headers=headers) from error
        run = str(claims.get("run", ""))
        if run and service == "arm":
            raise Refused(403, "AuthorizationFailed", f"The token of run {run} does not have authorization here.")
        return replace(request, run=run)

    def _below_workspace(self, path: str) -> str:
        """Return the path below the workspace. Raises Refused for another workspace."""
        identity = self._workspace.identity
        found = _WORKSPACE.fullmatch(path)
        if found is None or found["provider"].lower() != PROVIDER.lower():
            raise Refused(404, "InvalidResourceType", f"The emulator has one workspace only, and not {path}")
        for kind in ("subscription", "group", "workspace"):
            if found[kind].lower() != str(getattr(identity, kind)).lower():
                raise Refused(
                    404,
                    "ResourceNotFound",
                    f"The {kind} {found[kind]!r} was not found: the emulator has {identity.scope}",
                )
        return found["rest"] or ""


def _check_version(request: Request) -> None:
    version = request.query.get("api-version")
    if version is None:
        raise Refused(400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required.")
    if version not in VERSIONS:
        raise Refused(
            400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid: {', '.join(sorted(VERSIONS))}"
        )

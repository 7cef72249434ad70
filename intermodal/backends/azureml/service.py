"""AzureML's REST interface, as far as a submission needs it: one workspace, tokens renewed, what is passing tried again.

azure-core carries it (retries with Retry-After, TLS). The SDK's own client asks for an environment once for each node; here each
thing is asked for once. Source: API versions 2023-04-01 to 2024-10-01-preview, as azure-ai-ml 1.35 uses them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

from azure.core import PipelineClient
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import HTTPPolicy, RedirectPolicy, RetryPolicy, UserAgentPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse

from intermodal import __version__
from intermodal.backends.azureml.bodies import Workspace
from intermodal.backends.azureml.cloud import Cloud, Credential, Token, sign_in
from intermodal.backends.remote.contract import PlaceProblem

JOBS, COMPONENTS = "2024-01-01-preview", "2024-01-01-preview"
ENVIRONMENTS, CODES, CANCEL = "2023-04-01-preview", "2023-04-01", "2023-04-01-preview"
WORKSPACES, DATASTORES = "2024-10-01-preview", "2024-10-01-preview"
_PASSING = frozenset({0, 408, 409, 425, 429, 500, 502, 503, 504})
_TRIES = 5
_LONGEST_WAIT = 20
_SPARE = 120
"""Seconds before its end at which a token is renewed."""


class Tokens:
    """Tokens of one credential, each kept until it is about to end."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self._kept: dict[str, Token] = {}
        self._lock = threading.Lock()

    def get(self, resource: str) -> str:
        """Return a token for a resource. Raises EnvironmentProblem."""
        with self._lock:
            kept = self._kept.get(resource)
            if kept is None or kept.expires_on < time.time() + _SPARE:
                kept = self._kept[resource] = sign_in(self._credential, resource)
            return str(kept.token)

    def drop(self) -> None:
        """Forget all of them: one was refused."""
        with self._lock:
            self._kept.clear()


class _Bearer(HTTPPolicy[HttpRequest, HttpResponse]):
    """Puts a token on each request; a refused one is renewed once."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens

    def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, HttpResponse]:
        for name in (
            "resource",
            "user",
        ):  # options are the transport's next; a request that is sent again comes here again
            if name in request.context.options:
                request.context[name] = request.context.options.pop(name)
        resource, user = request.context.get("resource"), request.context.get("user")
        if resource is None:
            return self.next.send(request)
        response = self._with_token(request, resource, user)
        if response.http_response.status_code == 401:
            self._tokens.drop()
            response = self._with_token(request, resource, user)
        return response

    def _with_token(
        self, request: PipelineRequest[HttpRequest], resource: str, user: str | None
    ) -> PipelineResponse[HttpRequest, HttpResponse]:
        request.http_request.headers["Authorization"] = f"Bearer {self._tokens.get(resource)}"
        if user is not None:
            request.http_request.headers["x-azureml-token"] = self._tokens.get(user)
        return self.next.send(request)


class Service:
    """One workspace. Safe for several threads. Close it (`with`)."""

    def __init__(self, workspace: Workspace, cloud: Cloud, credential: Credential) -> None:
        """Nothing is asked yet."""
        self.workspace = workspace
        self.cloud = cloud
        self.credential = credential
        self._tokens = Tokens(credential)
        policies = [
            UserAgentPolicy(f"intermodal/{__version__}"),
            RedirectPolicy(),
            RetryPolicy(
                retry_total=_TRIES,
                retry_connect=_TRIES,
                retry_read=_TRIES,
                retry_status=_TRIES,
                retry_backoff_factor=0.5,
                retry_backoff_max=_LONGEST_WAIT,
            ),
            _Bearer(self._tokens),
        ]
        verify = str(cloud.authority) if cloud.authority else True
        transport = RequestsTransport(connection_timeout=20, read_timeout=60, connection_verify=verify)
        self._client: Any = PipelineClient(cloud.management, policies=policies, transport=transport)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    # The workspace's resources

    def get(self, path: str, version: str) -> dict[str, Any] | None:
        """Return a resource of the workspace, None if there is none. Raises PlaceProblem."""
        return self._ask("GET", self._resource(path, version), missing=True)

    def put(self, path: str, version: str, body: Mapping[str, Any], *, as_user: bool = False) -> dict[str, Any]:
        """Make a resource, or make it so again. `as_user`: with the token that a pipeline job runs by. Raises PlaceProblem."""
        user = self.cloud.resource if as_user else None
        return self._ask("PUT", self._resource(path, version), body, user=user) or {}

    def post(self, path: str, version: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask a resource to do something. Raises PlaceProblem."""
        return self._ask("POST", self._resource(path, version), body or {}) or {}

    def about(self) -> dict[str, Any]:
        """Return the workspace itself. Raises PlaceProblem, in one line, if it is not there or not ours to see."""
        found = self.get("", WORKSPACES)
        if found is None:
            name = self.workspace
            raise PlaceProblem(
                f"there is no AzureML workspace {name.name!r} in resource group {name.resource_group!r}",
                passing=False,
                status=404,
                hint="az ml workspace list",
            )
        return found

    def _resource(self, path: str, version: str) -> str:
        return f"{self.cloud.management.rstrip('/')}{self.workspace.path}{path}?api-version={version}"

    # Run history

    @cached_property
    def _history(self) -> str:
        """The address of run history for this workspace."""
        discovery = str(self.about()["properties"]["discoveryUrl"])
        found = self._ask("GET", discovery, resource=self.cloud.management) or {}
        return f"{str(found['api']).rstrip('/')}/history/v1.0{self.workspace.path}"

    def history(self, path: str) -> dict[str, Any] | None:
        """Return what run history says, None if it knows nothing of that. Raises PlaceProblem."""
        url = path if path.startswith("https://") else f"{self._history}{path}"
        if urlsplit(url).netloc != urlsplit(self._history).netloc:
            raise PlaceProblem(f"{_place(url)}: a page of run history elsewhere gets no token", passing=False)
        return self._ask("GET", url, missing=True, resource=self.cloud.resource)

    # Files

    def text(self, url: str, start: int) -> bytes:
        """Return what is at a signed address from byte `start` on; empty if there is nothing (yet). Raises PlaceProblem."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._send(HttpRequest("GET", url, headers=headers))
        if response.status_code in (404, 416):
            return b""
        if response.status_code not in (200, 206):
            raise _problem(response, "GET", url)
        data: bytes = response.content
        return data if response.status_code == 206 or not start else data[start:]

    def _ask(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        missing: bool = False,
        resource: str | None = None,
        user: str | None = None,
    ) -> dict[str, Any] | None:
        request = HttpRequest(method, url, json=body) if body is not None else HttpRequest(method, url)
        response = self._send(request, resource=resource or self.cloud.management, user=user)
        if response.status_code == 404 and missing:
            return None
        if response.status_code >= 400:
            raise _problem(response, method, url)
        try:
            answer = response.json() if response.content else {}
        except ValueError as error:
            raise PlaceProblem(f"{method} {_place(url)}: the answer is no JSON", passing=True) from error
        return answer if isinstance(answer, dict) else {"value": answer}

    def _send(self, request: HttpRequest, **options: Any) -> HttpResponse:
        if urlsplit(request.url).scheme != "https" and options:
            raise PlaceProblem(f"{_place(request.url)}: a token is sent by https alone", passing=False)
        try:
            response: HttpResponse = self._client.send_request(request, **options)
        except (ServiceRequestError, ServiceResponseError, IncompleteReadError) as error:
            raise PlaceProblem(
                f"{request.method} {_place(request.url)}: no answer: {_first(error)}", passing=True
            ) from error
        except ClientAuthenticationError as error:
            raise PlaceProblem(f"{_place(request.url)}: {_first(error)}", passing=False, status=401) from error
        except AzureError as error:
            raise PlaceProblem(f"{request.method} {_place(request.url)}: {_first(error)}", passing=True) from error
        return response


def segment(text: str) -> str:
    """Return text as one segment of an address."""
    return quote(text, safe="")


def _problem(response: HttpResponse, method: str, url: str) -> PlaceProblem:
    status = response.status_code
    said = _said(response)
    hint = None
    if status == 401:
        hint = "az login"
    if status == 403:
        hint = "the role AzureML Data Scientist on the workspace lets you submit"
    return PlaceProblem(
        f"{method} {_place(url)}: {status} {said}", passing=status in _PASSING, status=status, hint=hint
    )


def _said(response: HttpResponse) -> str:
    """Return the service's own words; they come as `{"error": {"code", "message"}}`."""
    try:
        error = json.loads(response.content).get("error", {})
        words = error.get("message") or error.get("code")
    except (ValueError, AttributeError):
        words = None
    return " ".join(str(words or response.reason).split())


def _place(url: str) -> str:
    """Return an address without its query, which may hold a signature."""
    parts = urlsplit(url)
    path = parts.path
    if "/workspaces/" in path:
        return path.partition("/workspaces/")[2].partition("/")[2] or "the workspace"
    return f"{parts.hostname or ''}{path}"


def _first(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__

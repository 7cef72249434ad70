"""MLflow's REST interface, as much of it as sending a run needs. The standard library alone: to send, no MLflow is needed here.

Source: https://mlflow.org/docs/latest/rest-api.html, version 2.0 of the interface.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from intermodal.errors import BadInput
from intermodal.tracking.target import without_secrets

PAGE = 500
"""Runs of one answer: some megabytes."""
USER = "MLFLOW_TRACKING_USERNAME"
PASSWORD = "MLFLOW_TRACKING_PASSWORD"
_LARGEST = 32 * 1024 * 1024
"""Bytes of an answer."""
_LOCAL = ("127.0.0.1", "localhost", "::1")
_ABSENT = "RESOURCE_DOES_NOT_EXIST"


class Unreachable(Exception):
    """The server does not answer, or says that it cannot now: later may do."""


class Rejected(Exception):
    """The server understood and refused: asking again gives the same. `code` is MLflow's error code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Client:
    """Talks to the server at one address. Every call raises Unreachable or Rejected, and ends within a few times `timeout`."""

    def __init__(self, uri: str, environment: Mapping[str, str], timeout: float) -> None:
        """`environment` may hold MLFLOW_TRACKING_TOKEN, or ..._USERNAME and ..._PASSWORD. Raises BadInput."""
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"tracking server {without_secrets(uri)}: expected an address such as http://127.0.0.1:5000")
        self.uri = without_secrets(uri)
        self._timeout = timeout
        self._authorization = _authorization(uri, environment)
        # A proxy of the environment is for the world outside, never for this machine.
        handlers = [urllib.request.ProxyHandler({})] if parts.hostname in _LOCAL else []
        self._opener = urllib.request.build_opener(*handlers)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """Call `api/2.0/mlflow/<path>`."""
        words = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        url = f"{self.uri}/api/2.0/mlflow/{path}" + (f"?{words}" if words else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)  # never to where an answer leads
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                given = json.loads(answer.read(_LARGEST) or b"{}")
        except urllib.error.HTTPError as error:
            raise _refusal(error, path) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.uri}: {error}") from error
        if not isinstance(given, dict):
            raise Unreachable(f"{self.uri}/{path}: is no MLflow server")
        return given

    def check(self) -> None:
        """Ask for nothing in particular."""
        self.call("POST", "experiments/search", {"max_results": 1})

    def experiment(self, name: str) -> str:
        """Return the id of the experiment, made if absent."""
        for _ in range(2):
            try:
                found = self.call("GET", "experiments/get-by-name", experiment_name=name)
                return str(found["experiment"]["experiment_id"])
            except Rejected as error:
                if error.code != _ABSENT:
                    raise
            try:
                return str(self.call("POST", "experiments/create", {"name": name})["experiment_id"])
            except Rejected as error:
                if error.code != "RESOURCE_ALREADY_EXISTS":  # somebody else made it since
                    raise
        raise Rejected(f"experiment {name!r} cannot be made", "")

    def create_run(self, experiment: str, name: str, start: int, tags: Mapping[str, str]) -> str:
        """Open a run and return its id. `start` is in milliseconds."""
        body = {"experiment_id": experiment, "run_name": name, "start_time": start, "tags": pairs(tags)}
        return str(self.call("POST", "runs/create", body)["run"]["info"]["run_id"])

    def update_run(self, run: str, status: str, end: int | None) -> None:
        body: dict[str, Any] = {"run_id": run, "status": status}
        self.call("POST", "runs/update", body if end is None else {**body, "end_time": end})

    def log_batch(self, run: str, **given: Sequence[Mapping[str, Any]]) -> None:
        """Log `metrics`, `params` and `tags`, each a list as MLflow wants it. The same point twice is one point."""
        self.call("POST", "runs/log-batch", {"run_id": run, **given})

    def log_inputs(self, run: str, datasets: Sequence[Mapping[str, Any]]) -> None:
        self.call("POST", "runs/log-inputs", {"run_id": run, "datasets": datasets})

    def experiments(self) -> list[str]:
        """Return the ids of all experiments that are not deleted."""
        answers = self._pages("experiments/search", {"max_results": 1000, "view_type": "ACTIVE_ONLY"})
        return [str(experiment["experiment_id"]) for answer in answers for experiment in answer.get("experiments", ())]

    def search(
        self, experiments: Sequence[str], words: str, order: str = "", *, deleted: bool = False, page: int = PAGE
    ) -> Iterator[dict[str, Any]]:
        """Yield the answers to a search for runs, at most `page` of them in each: `runs`, and `next_page_token` if more follow.

        `words` is MLflow's filter, `order` such as `attributes.start_time ASC`. `deleted`: deleted runs, too.
        """
        body = {
            "experiment_ids": list(experiments),
            "filter": words,
            "run_view_type": "ALL" if deleted else "ACTIVE_ONLY",
            "max_results": page,
        }
        return self._pages("runs/search", {**body, "order_by": [order]} if order else body)

    def _pages(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            answer = self.call("POST", path, {**body, "page_token": token} if token else body)
            yield answer
            token = answer.get("next_page_token", "")
            if not token:
                return


def pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def credentials(uri: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the user's name and password: what the address says, in which `%40` is `@`, else the environment; empty if neither does."""
    parts = urlsplit(uri)
    user = unquote(parts.username or "") or environment.get(USER, "")
    return user, unquote(parts.password or "") or environment.get(PASSWORD, "")


def _authorization(uri: str, environment: Mapping[str, str]) -> str:
    user, password = credentials(uri, environment)
    if user:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else ""


def _refusal(error: urllib.error.HTTPError, path: str) -> Unreachable | Rejected:
    code, message = "", str(error.reason)
    try:
        document = json.loads(error.read(_LARGEST))
        code, message = str(document.get("error_code", "")), str(document.get("message", message))
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        pass  # an answer of something before the server: its status says enough
    text = f"{path}: {error.code} {message}"
    if error.code >= 500 or error.code in (401, 403, 408, 429):
        return Unreachable(text)
    return Rejected(text, code)

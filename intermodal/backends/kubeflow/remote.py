"""A run of Kubeflow Pipelines, through the real `kfp.Client`. What it means is KFP's to say; nothing is decided here."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from intermodal.backends.kubeflow.names import assign, places
from intermodal.backends.kubeflow.settings import KubeflowSettings
from intermodal.backends.remote.contract import Ended, Group, Look, Outcome, PlaceProblem, Seen
from intermodal.backends.remote.opened import OpenRun
from intermodal.engine.artifacts import Outputs
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.states import State
from intermodal.errors import EnvironmentProblem

PACKAGE = "kubeflow.yaml"
"""File in the run's folder: the IR as it was sent."""
_STATES: Mapping[str, State] = {
    "PENDING": State.PENDING,
    "SUCCEEDED": State.SUCCEEDED,
    "SKIPPED": State.SKIPPED,
    "FAILED": State.FAILED,
    "CANCELED": State.CANCELLED,
}
"""RuntimeState of the API v2beta1; any other word is that of something that goes on."""
_PASSING = frozenset({0, 408, 429, 500, 502, 503, 504})
_EQUALS = 1
_NOTHING = Outputs()
"""The API tells nothing of outputs."""
T = TypeVar("T")


def open_client(settings: KubeflowSettings) -> Any:
    """Return kfp's client; who asks is what kfp's own configuration says. Raises EnvironmentProblem, PlaceProblem."""
    try:
        from kfp.client import Client
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            "submitting to Kubeflow needs the Python package 'kfp'", hint="pip install 'intermodal[kfp]'"
        ) from error
    options = {"ssl_ca_cert": settings.authority} if settings.authority else {}
    with warnings.catch_warnings(), _explained("the pipelines' API"):
        warnings.simplefilter("ignore", FutureWarning)
        return Client(host=settings.host, namespace=settings.namespace or "kubeflow", **options)


class KubeflowRemote:
    """One run. It is known there by the run's name, so that it is found again whoever lost its id."""

    def __init__(self, run: OpenRun, client: Any) -> None:
        self._run = run
        self._client = client
        self._place = run.place
        self._places = places(run.pipeline)
        self._id = ""
        self._groups: list[Group] = []
        self._pods: dict[str, str] = {}
        """Path of a task -> the node that holds its log."""

    def submit(self) -> None:
        if self._find():
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _ask(
                "create the run",
                lambda: self._client.create_run_from_pipeline_package(
                    str(self._run.folder / PACKAGE),
                    arguments=dict(self._run.inputs.parameters),
                    run_name=self._run.id,
                    experiment_name=self._place["experiment"],
                    namespace=self._place["namespace"] or None,
                ),
            )
        self._id = str(made.run_id)

    def _find(self) -> str:
        """Return the id of the run, empty if there is none there."""
        if not self._id:
            wanted = {"operation": _EQUALS, "key": "display_name", "stringValue": self._run.id}
            found = _ask(
                "look for the run",
                lambda: self._client.list_runs(
                    filter=json.dumps({"predicates": [wanted]}), namespace=self._place["namespace"] or None
                ),
            )
            named = [item for item in found.runs or () if item.display_name == self._run.id]
            self._id = str(named[0].run_id) if named else ""
        return self._id

    def _known(self) -> str:
        found = self._find()
        if not found:
            raise PlaceProblem(
                f"there is no run {self._run.id!r} there",
                passing=False,
                status=404,
                hint="`intermodal resume` sends it",
            )
        return found

    def page(self) -> str:
        return f"{str(self._place['host']).rstrip('/')}/#/runs/details/{self._known()}"

    def look(self) -> Look:
        run = self._known()
        answer = _ask("get the run", lambda: self._client.get_run(run))
        details = (answer.run_details.task_details if answer.run_details else None) or ()
        named: dict[str, list[Any]] = {}
        for detail in sorted(details, key=lambda item: (_seconds(item.start_time) or 0, str(item.task_id))):
            named.setdefault(str(detail.display_name), []).append(detail)
        tasks: list[Seen] = []
        self._groups = []
        for name, items in named.items():
            for detail, (path, place) in zip(items, assign(self._places.get(name, ()), len(items)), strict=False):
                if place.leaf:
                    tasks.append(self._seen(path, detail))
                elif _state(detail.state).final:
                    self._groups.append(Group(path, _state(detail.state), _NOTHING))
        state = _state(answer.state)
        return Look(state if state.final else State.RUNNING, tasks, _words(answer.error))

    def _seen(self, path: str, detail: Any) -> Seen:
        pods = [str(child.pod_name) for child in detail.child_tasks or () if child.pod_name]
        if pods:
            self._pods[path] = pods[-1]
        state = _state(detail.state)
        failure = None
        if state is State.FAILED:
            failure = Failure(FailureClass.USER_CODE, _words(detail.error) or "KFP says no more; see its log")
        started, ended = _seconds(detail.start_time), _seconds(detail.end_time)
        return Seen(path, str(detail.task_id), state, started, ended, failure)

    def ended(self, seen: Seen) -> Ended:
        return Ended(seen.state, failure=seen.failure, reason="KFP skipped it" if seen.state is State.SKIPPED else "")

    def outcome(self, look: Look) -> Outcome:
        return Outcome(look.state, _NOTHING, self._groups)

    def log(self, seen: Seen, start: int) -> bytes:
        """Return what the node's pod wrote: as long as it is there, or its archived log is."""
        node = self._pods.get(seen.path)
        if node is None:
            return b""
        api = self._client._run_api.api_client  # the client has no call of its own for this
        try:
            answer = api.call_api(
                f"/apis/v1alpha1/runs/{self._known()}/nodes/{node}/log",
                "GET",
                auth_settings=["Bearer"],
                _preload_content=False,
                _return_http_data_only=True,
            )
        except _api_errors():
            return b""
        data: bytes = answer.data
        return data[start:]

    def cancel(self) -> None:
        run = self._known()
        _ask("terminate the run", lambda: self._client.terminate_run(run))

    def download(self, uri: str, folder: Path) -> Path:
        raise PlaceProblem(f"{uri}: KFP's API gives no artifacts", passing=False)


def _state(word: Any) -> State:
    return _STATES.get(str(word), State.RUNNING)


def _words(error: Any) -> str:
    return " ".join(str(getattr(error, "message", None) or "").split())


def _seconds(moment: Any) -> float | None:
    """Return a time in seconds; KFP writes the year 1970 for one that has not come."""
    if not isinstance(moment, datetime) or moment.timestamp() <= 0:
        return None
    return moment.timestamp()


def _api_errors() -> tuple[type[Exception], ...]:
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    return ApiException, HTTPError


def _ask(what: str, call: Callable[[], T]) -> T:
    with _explained(what):
        return call()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what kfp's client raises into PlaceProblem, in one line."""
    try:
        yield
    except _api_errors() as error:
        status = int(getattr(error, "status", 0) or 0)
        body = getattr(error, "body", None)
        try:
            words = json.loads(body)["message"] if body else ""
        except (ValueError, KeyError, TypeError):
            words = ""
        words = " ".join(str(words or getattr(error, "reason", None) or error).split())[:300]
        hint = "kfp's own configuration says who asks: ~/.config/kfp/context.json" if status in (401, 403) else None
        raise PlaceProblem(
            f"{what}: {status or 'no answer'}: {words}", passing=status in _PASSING, status=status, hint=hint
        ) from error

"""MLflow's REST interface under the workspace's tracking address: experiments, runs, metrics, parameters, tags, artifacts.

As AzureML's, it has no logged models (`mlflow/logged-models`): MLflow 3's `log_model` gets 404. Unlike AzureML's it serves artifacts
to plain MLflow too (`mlflow-artifacts:`), which there takes the azureml-mlflow package.
Source of names and forms: https://mlflow.org/docs/latest/rest-api.html
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from intermodal.backends.azureml.emulator.answers import Answer, Refused, Request
from intermodal.backends.azureml.emulator.blobs import ARTIFACT_CONTAINER, Place
from intermodal.backends.azureml.emulator.contract import Change, Status
from intermodal.backends.azureml.emulator.jobs import artifact_folder
from intermodal.backends.azureml.emulator.records import Metric, Run
from intermodal.backends.azureml.emulator.runsearch import Shown, read_filter, read_order
from intermodal.backends.azureml.emulator.workspace import Routes, Workspace

_STATUS: Mapping[Status, str] = {
    "NotStarted": "SCHEDULED", "Queued": "SCHEDULED", "Preparing": "SCHEDULED", "Running": "RUNNING",
    "Finalizing": "RUNNING", "CancelRequested": "RUNNING", "Completed": "FINISHED", "Failed": "FAILED",
    "Canceled": "KILLED",
}  # fmt: skip
_FROM_STATUS: Mapping[str, Status] = {
    "SCHEDULED": "NotStarted",
    "RUNNING": "Running",
    "FINISHED": "Completed",
    "FAILED": "Failed",
    "KILLED": "Canceled",
}
_MOST_RUNS = 1000
Inner = Callable[[Workspace, Request, Mapping[str, Any]], Any]
"""Answers with a document; the third argument is what was asked, from the body or the query."""


def _experiment(name: str, id: str, created: float) -> dict[str, Any]:
    at = int(created * 1000)
    stage = {"lifecycle_stage": "active", "artifact_location": "", "tags": []}
    return {"experiment_id": id, "name": name, "creation_time": at, "last_update_time": at, **stage}


def _experiments(workspace: Workspace) -> list[dict[str, Any]]:
    return [_experiment(*found) for found in workspace.records.experiments()]


def _find_experiment(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    for found in _experiments(workspace):
        if asked.get("experiment_id") == found["experiment_id"] or asked.get("experiment_name") == found["name"]:
            return {"experiment": found}
    raise Refused(404, "NotFound", f"no experiment {asked.get('experiment_name') or asked.get('experiment_id')!r}")


def _create_experiment(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    name = _text(asked, "name")
    if any(found["name"] == name for found in _experiments(workspace)):
        raise Refused(409, "Conflict", f"the experiment {name!r} exists already")
    return {"experiment_id": workspace.records.experiment_id(name)}


def _search_experiments(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    return {"experiments": _experiments(workspace)}


def _show(workspace: Workspace, run: Run) -> dict[str, Any]:
    records = workspace.records
    tags = {"mlflow.user": "emulator", "mlflow.runName": run.display_name, "mlflow.rootRunId": run.root, **run.tags}
    if run.parent:
        tags["mlflow.parentRunId"] = run.parent
    return {
        "info": {
            "run_id": run.id,
            "run_uuid": run.id,
            "run_name": tags["mlflow.runName"],
            "experiment_id": records.experiment_id(run.experiment),
            "user_id": "emulator",
            "status": _STATUS[run.status],
            "start_time": int((run.started or run.created) * 1000),
            "end_time": int(run.ended * 1000) if run.ended else None,
            "artifact_uri": f"mlflow-artifacts:/{artifact_folder(run.id)}",
            "lifecycle_stage": "deleted" if run.hidden else "active",
        },
        "data": {
            "metrics": [_metric(metric) for metric in records.last_metrics(run.id).values()],
            "params": _pairs(records.parameters(run.id)),
            "tags": _pairs(tags),
        },
        "inputs": {},
    }


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _metric(metric: Metric) -> dict[str, Any]:
    value: Any = metric.value
    if not math.isfinite(value):  # JSON has no such numbers; protocol buffers write them so
        value = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": metric.key, "value": value, "timestamp": metric.timestamp, "step": metric.step}


def _find(workspace: Workspace, asked: Mapping[str, Any]) -> Run:
    id = asked.get("run_id") or asked.get("run_uuid")
    try:
        return workspace.records.run(str(id))
    except KeyError as error:
        raise Refused(404, "NotFound", f"no run {id!r}") from error


def _own(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Run:
    """Return the run that is written to: a job's token writes to its own run, and to those that it made below it."""
    run = _find(workspace, asked)
    if request.run and request.run not in (run.id, run.parent, run.root):
        raise Refused(403, "Forbidden", f"the token of run {request.run} may not write to run {run.id}")
    return run


def _create(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    experiment = next((e for e in _experiments(workspace) if e["experiment_id"] == asked.get("experiment_id")), None)
    if experiment is None:
        raise Refused(404, "NotFound", f"no experiment {asked.get('experiment_id')!r}")
    tags = {str(tag["key"]): str(tag["value"]) for tag in asked.get("tags", [])}
    id = str(uuid.uuid4())
    parent = tags.get("mlflow.parentRunId") or request.run or None
    started = float(asked.get("start_time") or time.time() * 1000) / 1000
    run = Run(
        id=id,
        kind="mlflow",
        root=_find(workspace, {"run_id": parent}).root if parent else id,
        parent=parent,
        node="",
        display_name=str(asked.get("run_name") or tags.get("mlflow.runName") or id),
        experiment=str(experiment["name"]),
        body={},
        created=time.time(),
        status="Running",
        tags=tags,
        started=started,
    )
    workspace.records.add_run(run)
    return {"run": _show(workspace, run)}


def _get(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    return {"run": _show(workspace, _find(workspace, asked))}


def _update(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    """Take a name or a status; a job's own status is for the service to say, and stays."""
    run = _own(workspace, request, asked)
    status = asked.get("status")
    if status is not None and status not in _FROM_STATUS:
        raise Refused(400, "BadRequest", f"status is {status!r}, not one of {', '.join(_FROM_STATUS)}")
    if asked.get("run_name"):
        workspace.records.describe_run(run.id, display_name=str(asked["run_name"]))
    if status is not None and run.kind == "mlflow":
        workspace.records.change_run(run.id, Change(status=_FROM_STATUS[status]))
    return {"run_info": _show(workspace, workspace.records.run(run.id))["info"]}


def _log_metric(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    workspace.records.log(_own(workspace, request, asked).id, [_read_metric(asked)], {})
    return {}


def _log_parameter(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    _log(workspace, _own(workspace, request, asked), [], {_text(asked, "key"): str(asked.get("value"))})
    return {}


def _log_batch(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    run = _own(workspace, request, asked)
    metrics = [_read_metric(metric) for metric in asked.get("metrics") or ()]
    _log(workspace, run, metrics, {_text(item, "key"): str(item.get("value")) for item in asked.get("params") or ()})
    tags = {_text(item, "key"): str(item.get("value")) for item in asked.get("tags") or ()}
    workspace.records.change_run(run.id, Change(tags=tags))
    return {}


def _log(workspace: Workspace, run: Run, metrics: list[Metric], parameters: Mapping[str, str]) -> None:
    try:
        workspace.records.log(run.id, metrics, parameters)
    except ValueError as error:
        raise Refused(400, "BadRequest", str(error)) from error


def _read_metric(asked: Mapping[str, Any]) -> Metric:
    try:
        value, when, step = float(asked["value"]), int(asked.get("timestamp") or 0), int(asked.get("step") or 0)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(400, "BadRequest", f"{asked!r} is no metric") from error
    return Metric(_text(asked, "key"), value, when or int(time.time() * 1000), step)


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, "BadRequest", f"{name} is missing", target=name)
    return value


def _set_tag(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    run = _own(workspace, request, asked)
    workspace.records.change_run(run.id, Change(tags={_text(asked, "key"): str(asked.get("value"))}))
    return {}


def _delete_tag(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    workspace.records.remove_tags(_own(workspace, request, asked).id, [_text(asked, "key")])
    return {}


def _history(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    found = workspace.records.metric_history(_find(workspace, asked).id, _text(asked, "metric_key"))
    return {"metrics": [_metric(metric) for metric in found]}


def _search(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    wanted = set(asked.get("experiment_ids") or ())
    names = [found["name"] for found in _experiments(workspace) if found["experiment_id"] in wanted]
    accepts = read_filter(str(asked.get("filter") or ""))
    shown = [(run, Shown(_show(workspace, run))) for run in workspace.records.runs(names) if not run.hidden]
    found = [item for item in shown if accepts(item[1])]
    for order in reversed(asked.get("order_by") or ()):
        key, descending = read_order(str(order))
        known = [item for item in found if key(item[1]) is not None]
        unknown = [item for item in found if key(item[1]) is None]
        found = sorted(known, key=lambda item: key(item[1]), reverse=descending) + unknown
    begin = int(asked.get("page_token") or 0)
    end = begin + min(int(asked.get("max_results") or _MOST_RUNS), _MOST_RUNS)
    answer: dict[str, Any] = {"runs": [item[1].document for item in found[begin:end]]}
    return answer | ({"next_page_token": str(end)} if len(found) > end else {})


def _list_artifacts(workspace: Workspace, request: Request, asked: Mapping[str, Any]) -> Any:
    run = _find(workspace, asked)
    return {"root_uri": f"mlflow-artifacts:/{artifact_folder(run.id)}", **_listing(workspace, run.id, asked)}


def _listing(workspace: Workspace, run: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """List what is directly in a folder of a run's artifacts, its path relative to the run's."""
    root = artifact_folder(run) + "/"
    path = str(asked.get("path") or "").strip("/")
    base = f"{root}{path}/" if path else root
    files: dict[str, dict[str, Any]] = {}
    for name, size in workspace.blobs.sizes(Place(ARTIFACT_CONTAINER, base)):
        first, _, rest = name.removeprefix(base).partition("/")
        item = {"is_dir": True} if rest else {"is_dir": False, "file_size": size}
        files.setdefault(first, {"path": str(PurePosixPath(path, first)), **item})
    return {"files": list(files.values())}


def _artifact_place(workspace: Workspace, request: Request) -> Place:
    path = request.names["path"]
    if not path.startswith("ExperimentRun/dcid.") or ".." in path.split("/"):
        raise Refused(403, "Forbidden", f"{path!r} is no artifact of a run")
    return Place(ARTIFACT_CONTAINER, path)


def _get_artifact(workspace: Workspace, request: Request) -> Answer:
    place = _artifact_place(workspace, request)
    try:
        return Answer(workspace.blobs.read(place))
    except KeyError as error:
        raise Refused(404, "NotFound", f"no artifact {place.path!r}") from error


def _put_artifact(workspace: Workspace, request: Request) -> Answer:
    place = _artifact_place(workspace, request)
    _own(workspace, request, {"run_id": place.path.split("/")[1].removeprefix("dcid.")})
    workspace.blobs.write(place, request.body)
    return Answer({})


def _browse_artifacts(workspace: Workspace, request: Request) -> Answer:
    """List for `mlflow-artifacts:`: `path` begins with the run's own folder, what is answered is relative to it."""
    _, _, below = request.query.get("path", "").partition("ExperimentRun/dcid.")
    run, _, path = below.partition("/")
    found = _listing(workspace, run, {"path": path})
    return Answer({"files": [{**item, "path": PurePosixPath(item["path"]).name} for item in found["files"]]})


def _no_logged_models(workspace: Workspace, request: Request) -> Answer:
    raise Refused(404, "NotFound", "AzureML has no logged models: log artifacts and register them as a model")


def _route(method: str, path: str, inner: Inner) -> tuple[str, str, Callable[[Workspace, Request], Answer]]:
    def handle(workspace: Workspace, request: Request) -> Answer:
        asked: dict[str, Any] = dict(request.query) if method == "GET" else request.object()
        return Answer(inner(workspace, request, asked))

    return method, f"(?:/api/2\\.0|/ajax-api/2\\.0)/mlflow/{path}", handle


_ARTIFACTS = "/api/2\\.0/mlflow-artifacts/artifacts"
ROUTES: Routes = (
    _route("GET", "experiments/get-by-name", _find_experiment),
    _route("GET", "experiments/get", _find_experiment),
    _route("POST", "experiments/create", _create_experiment),
    _route("POST", "experiments/search", _search_experiments),
    _route("GET", "experiments/search", _search_experiments),
    _route("POST", "runs/create", _create),
    _route("GET", "runs/get", _get),
    _route("POST", "runs/update", _update),
    _route("POST", "runs/search", _search),
    _route("POST", "runs/log-metric", _log_metric),
    _route("POST", "runs/log-parameter", _log_parameter),
    _route("POST", "runs/log-batch", _log_batch),
    _route("POST", "runs/set-tag", _set_tag),
    _route("POST", "runs/delete-tag", _delete_tag),
    _route("GET", "metrics/get-history", _history),
    _route("GET", "artifacts/list", _list_artifacts),
    ("GET", _ARTIFACTS + "/(?P<path>.+)", _get_artifact),
    ("PUT", _ARTIFACTS + "/(?P<path>.+)", _put_artifact),
    ("GET", _ARTIFACTS, _browse_artifacts),
    ("POST", "/api/2\\.0/mlflow/logged-models.*", _no_logged_models),
    ("GET", "/api/2\\.0/mlflow/logged-models.*", _no_logged_models),
)

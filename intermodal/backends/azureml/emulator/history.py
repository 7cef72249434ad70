"""Run history: what became of runs, their children, outputs and logs; and the resolvers of outputs beside it."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any
from urllib.parse import quote

from intermodal.backends.azureml.emulator.answers import Answer, Refused, Request, not_found, timestamp
from intermodal.backends.azureml.emulator.blobs import ARTIFACT_CONTAINER, Place
from intermodal.backends.azureml.emulator.contract import ENDED, Change
from intermodal.backends.azureml.emulator.identity import REGION
from intermodal.backends.azureml.emulator.jobs import artifact_folder, find_run
from intermodal.backends.azureml.emulator.records import Run
from intermodal.backends.azureml.emulator.workspace import Routes, Workspace

_LOGS = ("user_logs/", "system_logs/", "logs/azureml/")
_OUTPUT_ID = re.compile(r"azureml://locations/[^/]+/workspaces/[^/]+/data/azureml_(?P<output>.+)/versions/1")
_BETWEEN = "_output_data_"
_LONGEST_VALUE = 1000
_LONGEST_KEY = 100
"""Characters of a property and of its name; the service refuses more."""


def show_run(workspace: Workspace, run: Run) -> dict[str, Any]:
    """Return a run as run history shows it."""
    user = {"userObjectId": workspace.identity.id, "userTenantId": workspace.identity.tenant, "userName": "emulator"}
    lasted = (run.ended or time.time()) - run.started if run.started else 0
    return {
        "runNumber": run.sequence,
        "rootRunId": run.root,
        "parentRunId": run.parent,
        "experimentId": workspace.records.experiment_id(run.experiment),
        "runId": run.id,
        "runUuid": _uuid(run.id),
        "rootRunUuid": _uuid(run.root),
        "parentRunUuid": _uuid(run.parent) if run.parent else None,
        "dataContainerId": f"dcid.{run.id}",
        "createdUtc": timestamp(run.created),
        "startTimeUtc": timestamp(run.started) if run.started else None,
        "endTimeUtc": timestamp(run.ended) if run.ended else None,
        "duration": f"{int(lasted // 3600):02d}:{int(lasted // 60 % 60):02d}:{lasted % 60:09.6f}"
        if run.ended
        else None,
        "createdBy": user,
        "status": run.status,
        "displayName": run.display_name,
        "name": run.node or run.display_name,
        "description": run.description,
        "hidden": run.hidden,
        "runType": _run_type(run),
        "runTypeV2": {"orchestrator": "Emulator", "traits": [], "attribution": None, "computeType": None},
        "properties": dict(run.properties),
        "tags": dict(run.tags),
        "target": _target(run),
        "compute": {"target": _target(run), "targetType": "AmlCompute", "vmSize": None, "instanceCount": 1},
        "error": _error(run),
        "warnings": [],
        "revision": 1,
        "services": {},
        "inputs": {},
        "outputs": {name: {"assetId": _output_id(workspace, run, name), "type": "uri_folder"} for name in run.outputs},
    }


def _run_type(run: Run) -> str:
    if run.kind == "job":
        kinds = {"Pipeline": "azureml.PipelineRun", "Command": "azureml.scriptrun", "Sweep": "azureml.sweep"}
        return kinds.get(str(run.body["properties"]["jobType"]), "azureml.scriptrun")
    return "azureml.StepRun" if run.kind == "child" else "mlflow"


def _target(run: Run) -> str:
    body = run.body.get("properties", run.body)
    return str(body.get("computeId") or "serverless").rsplit("/", 1)[-1]


def _uuid(id: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, id))


def _error(run: Run) -> dict[str, Any] | None:
    if not run.error:
        return None
    error: dict[str, Any] = {"code": "UserError", "message": run.error, "messageFormat": None, "messageParameters": {}}
    return {
        "error": {**error, "severity": None, "referenceCode": None, "detailsUri": None, "target": None, "details": []},
        "correlation": None,
        "environment": REGION,
        "location": REGION,
        "time": timestamp(run.ended or run.created),
        "componentName": "execution",
    }


def _output_id(workspace: Workspace, run: Run, name: str) -> str:
    data = f"azureml_{run.id}{_BETWEEN}{name}"
    return f"azureml://locations/{REGION}/workspaces/{workspace.identity.id}/data/{data}/versions/1"


def _resolve(workspace: Workspace, request: Request) -> Answer:
    """Say where outputs are, by the ids that runs give them."""
    values: dict[str, Any] = {}
    for asset in request.object().get("values", []):
        found = _OUTPUT_ID.fullmatch(str(asset))
        parts = found["output"].split(_BETWEEN) if found else []
        for cut in range(1, len(parts)):
            run, name = _BETWEEN.join(parts[:cut]), _BETWEEN.join(parts[cut:])
            try:
                uri = workspace.records.run(run).outputs[name]
            except KeyError:
                continue
            values[asset] = {"uri": uri, "path": uri, "type": "uri_folder"}
    return Answer({"values": values})


def _get(workspace: Workspace, request: Request) -> Answer:
    return Answer(show_run(workspace, find_run(workspace, request)))


def _details(workspace: Workspace, request: Request) -> Answer:
    run = find_run(workspace, request)
    shown = show_run(workspace, run)
    definition = {
        "runDefinition": None,
        "inputDatasets": [],
        "outputDatasets": [],
        "createdTimeUtc": shown["createdUtc"],
    }
    return Answer({**shown, **definition, "logFiles": _log_files(workspace, run)})


def _log_files(workspace: Workspace, run: Run) -> dict[str, str]:
    folder = artifact_folder(run.id) + "/"
    names = [name for kind in _LOGS for name in workspace.blobs.names(Place(ARTIFACT_CONTAINER, folder + kind))]
    return {name.removeprefix(folder): workspace.blobs.signed(Place(ARTIFACT_CONTAINER, name)) for name in names}


def _children(workspace: Workspace, request: Request) -> Answer:
    run = find_run(workspace, request)
    found = [show_run(workspace, child) for child in workspace.records.children(run.id)]
    top = int(request.query.get("$top") or 100)
    begin = int(request.query.get("$continuationToken") or 0)
    answer: dict[str, Any] = {"value": found[begin : begin + top], "continuationToken": None, "nextLink": None}
    if len(found) > begin + top:
        answer["continuationToken"] = str(begin + top)
        path = quote(request.path)
        answer["nextLink"] = f"{workspace.address}{path}?$top={top}&$continuationToken={begin + top}"
    return Answer(answer)


def _data(workspace: Workspace, request: Request) -> Answer:
    try:
        run = workspace.records.run(str(request.object().get("runId")))
    except KeyError as error:
        raise not_found(f"run {error.args[0]}") from error
    return Answer({"runMetadata": show_run(workspace, run), "runDefinition": None, "jobSpecification": None})


def _patch(workspace: Workspace, request: Request) -> Answer:
    """Take what a run's own process, or a user, says of it. Only what is given changes; a tag of null goes."""
    run, body = find_run(workspace, request), request.object()
    for field in ("properties", "tags"):
        _check_texts(field, body.get(field) or {})
    tags = body.get("tags") or {}
    columns = {"display_name": body.get("displayName"), "description": body.get("description")}
    if body.get("hidden") is not None:
        columns["hidden"] = int(bool(body["hidden"]))
    workspace.records.describe_run(run.id, **{name: value for name, value in columns.items() if value is not None})
    workspace.records.change_run(
        run.id,
        Change(
            properties={key: str(value) for key, value in (body.get("properties") or {}).items()},
            tags={key: str(value) for key, value in tags.items() if value is not None},
        ),
    )
    workspace.records.remove_tags(run.id, [key for key, value in tags.items() if value is None])
    status = body.get("status")
    if run.kind == "mlflow" and status in ENDED:
        workspace.records.change_run(run.id, Change(status=status))
    return Answer(show_run(workspace, workspace.records.run(run.id)))


def _check_texts(field: str, values: Any) -> None:
    if not isinstance(values, dict):
        raise Refused(400, "UserError", f"{field} must be an object", target=field)
    for key, value in values.items():
        if len(key) > _LONGEST_KEY:
            raise Refused(400, "UserError", f"{field}: a name has more than {_LONGEST_KEY} characters", target=field)
        if value is not None and len(str(value)) > _LONGEST_VALUE:
            raise Refused(400, "UserError", f"{field}.{key} has more than {_LONGEST_VALUE} characters", target=field)


def _experiment(workspace: Workspace, request: Request) -> Answer:
    wanted = request.names["experiment"]
    for name, id, created in workspace.records.experiments():
        if wanted in (name, id):
            return Answer({"experimentId": id, "name": name, "createdUtc": timestamp(created), "tags": {}})
    raise not_found(f"experiment {wanted}")


_RUN = "(?:/experimentids/[^/]+|/experiments/[^/]+)?/runs/(?P<name>[^/]+)"
ROUTES: Routes = (
    ("GET", _RUN, _get),
    ("PATCH", _RUN, _patch),
    ("GET", _RUN + "/details", _details),
    ("GET", _RUN + "/children", _children),
    ("POST", "/rundata", _data),
    ("GET", "/experiments/(?P<experiment>[^/]+)", _experiment),
    ("GET", "/experimentids/(?P<experiment>[^/]+)", _experiment),
)
RESOLVERS: Routes = (
    ("POST", "/dataversion/batchGetResolvedUris", _resolve),
    ("POST", "/models/batchGetResolvedUris", _resolve),
)

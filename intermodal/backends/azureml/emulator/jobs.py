"""Jobs: submitted, shown, listed and cancelled."""

from __future__ import annotations

import re
import time
from typing import Any

from intermodal.backends.azureml.emulator.answers import Answer, Refused, Request, not_found
from intermodal.backends.azureml.emulator.blobs import ARTIFACT_STORE
from intermodal.backends.azureml.emulator.contract import ENDED, Change
from intermodal.backends.azureml.emulator.identity import PROVIDER, REGION
from intermodal.backends.azureml.emulator.published import check_body
from intermodal.backends.azureml.emulator.records import Run
from intermodal.backends.azureml.emulator.tokens import BadToken, check_user_token
from intermodal.backends.azureml.emulator.workspace import Routes, Workspace, system_data

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
SERVERLESS = "serverless"
_DESCRIBING = ("description", "tags", "properties", "displayName", "isArchived")


def _put(workspace: Workspace, request: Request) -> Answer:
    name = request.names["name"]
    if not _NAME.fullmatch(name):
        raise Refused(400, "UserError", f"{name!r} is no name of a job", target="name")
    properties = check_body("jobs", request.object())
    if properties["jobType"] == "Pipeline":
        _check_user(workspace, request)
    _check_compute(workspace, properties)
    try:
        before = workspace.records.run(name)
    except KeyError:
        return Answer(_submit(workspace, name, properties), 201)
    return Answer(_describe(workspace, before, properties))


def _check_user(workspace: Workspace, request: Request) -> None:
    """A pipeline's steps run as the user: the client sends a token for that."""
    token = request.headers.get("x-azureml-token")
    if not token:
        raise Refused(401, "UserError", "The header x-azureml-token is missing: a pipeline job needs it")
    try:
        check_user_token(workspace.identity, token)
    except BadToken as error:
        raise Refused(401, "UserError", f"x-azureml-token: {error}") from error


def _check_compute(workspace: Workspace, properties: dict[str, Any]) -> None:
    name = str(properties.get("computeId") or SERVERLESS).rsplit("/", 1)[-1]
    if name != SERVERLESS and workspace.computes is not None and name not in workspace.computes:
        raise Refused(400, "UserError", f"Unknown compute target {name!r}.", target="computeId")


def _submit(workspace: Workspace, name: str, properties: dict[str, Any]) -> dict[str, Any]:
    experiment = properties.get("experimentName") or "Default"
    workspace.records.experiment_id(experiment)
    run = Run(
        id=name,
        kind="job",
        root=name,
        parent=None,
        node="",
        display_name=properties.get("displayName") or name,
        description=properties.get("description"),
        experiment=experiment,
        body={"properties": properties},
        created=time.time(),
        properties=_own_properties(workspace, properties),
        tags=_texts(properties.get("tags")),
    )
    try:
        workspace.records.add_run(run)
    except KeyError as error:
        raise Refused(409, "UserError", f"A job {name} is being submitted already") from error
    assert workspace.executor is not None
    shown = show_job(workspace, run)
    workspace.executor.submit(name, {"properties": properties})
    return shown


def _own_properties(workspace: Workspace, properties: dict[str, Any]) -> dict[str, str]:
    kind = properties["jobType"]
    ours = {"runSource": "MFE", "azureml.workspaceId": workspace.identity.id}
    if kind == "Pipeline":
        ours |= {"azureml.runsource": "azureml.PipelineRun", "runType": "HTTP", "azureml.parameters": "{}"}
        ours["azureml.pipelineComponent"] = "pipelinerun"
    elif kind == "Command":
        ours |= {"_azureml.ComputeTargetType": "amlctrain", "azureml.git.dirty": "False"}
    return ours | _texts(properties.get("properties"))


def _texts(values: Any) -> dict[str, str]:
    return {key: str(value) for key, value in (values or {}).items() if value is not None}


def _describe(workspace: Workspace, run: Run, properties: dict[str, Any]) -> dict[str, Any]:
    """Take what may change of a job that was submitted before; it is not run again. Raises Refused if it is another job."""
    before = {
        key: value for key, value in run.body["properties"].items() if key not in _DESCRIBING and value is not None
    }
    for key, value in properties.items():
        if key not in _DESCRIBING and value is not None and key in before and before[key] != value:
            raise Refused(
                400,
                "UserError",
                f"A job with the name {run.id} exists already; {key} of a job cannot be changed",
                target=key,
            )
    workspace.records.describe_run(
        run.id,
        display_name=properties.get("displayName") or run.display_name,
        description=properties.get("description") or run.description,
        hidden=int(bool(properties.get("isArchived"))),
    )
    changed = workspace.records.change_run(
        run.id, Change(tags=_texts(properties.get("tags")), properties=_texts(properties.get("properties")))
    )
    return show_job(workspace, changed)


def show_job(workspace: Workspace, run: Run) -> dict[str, Any]:
    """Return a job as ARM shows it. A child of a pipeline has no properties there: it is asked of run history."""
    resource = {"id": workspace.id("jobs", run.id), "name": run.id, "type": f"{PROVIDER}/workspaces/jobs"}
    if run.kind != "job":
        return {**resource, "properties": None, "systemData": system_data(run.created, run.created)}
    properties = dict(run.body["properties"])
    shown = {
        "computeId": None,
        "identity": None,
        "inputs": {},
        "settings": {},
        **properties,
        "description": run.description,
        "tags": dict(run.tags),
        "properties": dict(run.properties),
        "displayName": run.display_name,
        "experimentName": run.experiment,
        "isArchived": run.hidden,
        "status": run.status,
        "services": _services(workspace, run),
        "outputs": _outputs(run, properties.get("outputs") or {}),
    }
    if properties["jobType"] == "Pipeline":
        shown["sourceJobId"] = None
    else:
        shown["parameters"] = {}
        shown.pop("settings")
    return {**resource, "properties": shown, "systemData": system_data(run.created, run.ended or run.created)}


def _services(workspace: Workspace, run: Run) -> dict[str, Any]:
    scope = workspace.identity.scope
    addresses = {
        "Tracking": f"azureml://{workspace.tracking}?",
        "Studio": f"https://ml.azure.com/runs/{run.id}?wsid={scope}&tid={workspace.identity.tenant}",
    }
    nothing = {"port": None, "status": None, "errorMessage": None, "properties": None, "nodes": None}
    return {name: {"jobServiceType": name, "endpoint": at, **nothing} for name, at in addresses.items()}


def _outputs(run: Run, asked: dict[str, Any]) -> dict[str, Any]:
    """The outputs that the job asked for, at their addresses once they are known, and the folder of logs and artifacts."""
    default = {
        "description": None,
        "uri": f"azureml://datastores/{ARTIFACT_STORE}/{artifact_folder(run.id)}",
        "assetName": None,
        "mode": "ReadWriteMount",
        "jobOutputType": "uri_folder",
    }
    named = {
        name: {**(form or {}), "uri": run.outputs.get(name, (form or {}).get("uri"))} for name, form in asked.items()
    }
    return {"default": default, **named}


def artifact_folder(run: str) -> str:
    """Return where a run's logs and artifacts are in the artifact store."""
    return f"ExperimentRun/dcid.{run}"


def _get(workspace: Workspace, request: Request) -> Answer:
    return Answer(show_job(workspace, find_run(workspace, request)))


def find_run(workspace: Workspace, request: Request) -> Run:
    """Return the run that the path names. Raises Refused."""
    try:
        return workspace.records.run(request.names["name"])
    except KeyError as error:
        raise not_found(f"run {request.names['name']}") from error


def _list(workspace: Workspace, request: Request) -> Answer:
    view = request.query.get("listViewType", "ActiveOnly")
    kind, tag = request.query.get("jobType"), request.query.get("tag")
    found = [
        show_job(workspace, run)
        for run in workspace.records.jobs()
        if (view == "All" or (view == "ArchivedOnly") == run.hidden)
        and (not kind or run.body["properties"]["jobType"].lower() == kind.lower())
        and (not tag or tag in run.tags)
    ]
    size = 100
    begin = int(request.query.get("$skip", "0"))
    answer: dict[str, Any] = {"value": found[begin : begin + size]}
    if len(found) > begin + size:
        query = "&".join(f"{name}={value}" for name, value in request.query.items() if name != "$skip")
        answer["nextLink"] = f"{workspace.address}{request.path}?{query}&$skip={begin + size}"
    return Answer(answer)


def _cancel(workspace: Workspace, request: Request) -> Answer:
    run = find_run(workspace, request)
    if run.kind != "job":
        raise Refused(400, "UserError", f"{run.id} is a part of the job {run.root}: cancel that", target="name")
    cancel_job(workspace, run)
    where = f"/subscriptions/{workspace.identity.subscription}/providers/{PROVIDER}/locations/{REGION}"
    result = f"{workspace.address}{where}/mfeOperationResults/jc:{workspace.identity.id}:{run.id}"
    version = request.query.get("api-version", "")
    return Answer(None, 202, {"Location": f"{result}?api-version={version}", "Retry-After": "1"})


def cancel_job(workspace: Workspace, run: Run) -> None:
    """Ask for the end of a job; one that has ended stays as it is."""
    if run.status in ENDED:
        return
    assert workspace.executor is not None
    workspace.records.change_run(run.id, Change(status="CancelRequested"))
    workspace.executor.cancel(run.id)


def operation_result(workspace: Workspace, name: str) -> Answer:
    """Say whether a cancelled job has ended: 202 until then."""
    try:
        run = workspace.records.run(name)
    except KeyError as error:
        raise not_found(f"operation of job {name}") from error
    return Answer(None, 200) if run.status in ENDED else Answer(None, 202, {"Retry-After": "1"})


ROUTES: Routes = (
    ("GET", "/jobs", _list),
    ("GET", "/jobs/(?P<name>[^/]+)", _get),
    ("PUT", "/jobs/(?P<name>[^/]+)", _put),
    ("POST", "/jobs/(?P<name>[^/]+)/cancel", _cancel),
)

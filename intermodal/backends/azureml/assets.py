"""What a job refers to, made once each: environments, the launcher's code, components. What is there already is left as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from intermodal.backends.azureml import bodies
from intermodal.backends.azureml.service import CODES, COMPONENTS, ENVIRONMENTS, JOBS, Service, segment
from intermodal.backends.azureml.storage import upload_signed
from intermodal.backends.remote.contract import PlaceProblem

_FOLDER = "launcher"


def create_assets(service: Service, files: dict[str, str], made: dict[str, Any], say: Callable[[str], None]) -> None:
    """Make what is missing. `files` is the launcher; `made` holds the bodies: `environments`, `components`, `code_version`.

    Nothing is half there if this is killed: a version comes into being by one request. Raises PlaceProblem.
    """
    for name, body in made["environments"].items():
        _once(service, f"/environments/{segment(name)}/versions/1", ENVIRONMENTS, body, say)
    _code(service, files, made["code_version"], say)
    for body in made["components"].values():
        spec = body["properties"]["componentSpec"]
        path = f"/components/{segment(spec['name'])}/versions/{segment(spec['version'])}"
        _once(service, path, COMPONENTS, body, say)


def create_job(service: Service, name: str, body: dict[str, Any]) -> None:
    """Start a job, if there is none of that name. Raises PlaceProblem.

    The name is the run's: whether an earlier request arrived or not, there is one job.
    """
    if service.get(f"/jobs/{segment(name)}", JOBS) is not None:
        return
    try:
        service.put(f"/jobs/{segment(name)}", JOBS, body, as_user=True)
    except PlaceProblem as problem:
        if problem.status not in (400, 409) or service.get(f"/jobs/{segment(name)}", JOBS) is None:
            raise


def _once(service: Service, path: str, version: str, body: dict[str, Any], say: Callable[[str], None]) -> None:
    if service.get(path, version) is not None:
        return
    try:
        service.put(path, version, body)
    except PlaceProblem as problem:
        if problem.status != 409:  # else someone made it a moment ago
            raise
    say(f"made {path.removeprefix('/')}")


def _code(service: Service, files: dict[str, str], code_version: str, say: Callable[[str], None]) -> None:
    path = f"/codes/{bodies.CODE_NAME}/versions/{code_version}"
    if service.get(path, CODES) is not None:
        return
    pending = service.post(f"{path}/startPendingUpload", CODES, {"pendingUploadType": "TemporaryBlobReference"})
    reference = pending["blobReferenceForConsumption"]
    signed = (reference.get("credential") or {}).get("sasUri")
    if not signed:
        raise PlaceProblem("the workspace gave no place to upload the launcher to", passing=False)
    upload_signed(signed, _FOLDER, files)
    uri = f"{str(reference['blobUri']).rstrip('/')}/{_FOLDER}"
    body = {"properties": {"codeUri": uri, "isAnonymous": False, "properties": {}, "tags": {}}}
    try:
        service.put(path, CODES, body)
    except PlaceProblem as problem:
        if problem.status != 409:
            raise
    say(f"made {path.removeprefix('/')} ({len(files)} files)")

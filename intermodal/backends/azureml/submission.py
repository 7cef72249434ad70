"""From what is wanted to a run on record that can be sent: all that can be wrong is found before anything leaves this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.bodies import Workspace
from intermodal.backends.azureml.cloud import Cloud, Credential, check_settings
from intermodal.backends.azureml.compile import Compiled
from intermodal.backends.azureml.launcher.ports import tree_digest
from intermodal.backends.azureml.remote import JOB, AzureMLRemote
from intermodal.backends.azureml.requests import Wanted
from intermodal.backends.azureml.service import Service
from intermodal.backends.azureml.settings import AzureMLSettings
from intermodal.backends.azureml.storage import Storage, content_address, datastore_uri
from intermodal.backends.remote.contract import AZUREML
from intermodal.backends.remote.opened import Asked, OpenRun, record_run
from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.session import new_run_id
from intermodal.errors import BadInput

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Upload:
    """A file or folder of this machine that goes into a datastore, to a path named by its content."""

    source: str
    store: str
    path: str
    digest: str


def job_name(run: str) -> str:
    """Return the name of a run's job: always the same, so that it is never started twice."""
    name = _NOT_IN_A_NAME.sub("-", run)
    return (name if re.match(r"[A-Za-z0-9]", name) else f"r{name}")[:_LONGEST_NAME]


def place_data(wanted: Wanted, store: str) -> tuple[Wanted, list[Upload]]:
    """Give each artifact argument that lies on this machine its address in a datastore; nothing is uploaded yet."""
    uploads: list[Upload] = []
    placed: dict[str, tuple[Artifact, ...]] = {}
    for name, items in wanted.inputs.artifacts.items():
        found = []
        for item in items:
            if "://" not in item.uri:
                source = Path(item.uri)
                digest = tree_digest(source)
                path = content_address(source, f"content{source.suffix or '.bin'}", digest)
                uploads.append(Upload(str(source), store, path, digest))
                item = replace(item, uri=datastore_uri(store, path))
            found.append(item)
        placed[name] = tuple(found)
    return replace(wanted, inputs=Inputs(wanted.inputs.parameters, placed)), uploads


def check_images(compiled: Compiled, cloud: Cloud) -> None:
    """Raise BadInput if AzureML could not pull an image, or would pull another one tomorrow."""
    if cloud.local:
        return
    for image in sorted({shape.image for shape in compiled.lowered.shapes.values()}):
        if "@sha256:" not in image:
            users = sorted(node.path or "verdict" for node in compiled.lowered.nodes if node.shape.image == image)
            raise BadInput(
                f"{users[0]}: image {image} has no digest in a registry",
                hint="make images-push pushes the project's images; others go into [tool.intermodal.azureml.images]",
            )


def open_service(settings: AzureMLSettings, cloud: Cloud, credential: Credential) -> Service:
    """Return a client of the settings' workspace that has been let in. Raises BadInput, EnvironmentProblem, in one line."""
    check_settings(settings)
    service = Service(Workspace.of(settings), cloud, credential)
    try:
        service.about()
    except BaseException:
        service.close()
        raise
    return service


def submit(
    wanted: Wanted,
    compile_it: Callable[[Wanted], Compiled],
    service: Service,
    state: StateFolder,
    database: Database,
    say: Callable[[str], None],
    emulator: Path | None = None,
) -> OpenRun:
    """Put the run on record, send it, and return it, held. Killed at any moment, `resume` goes on with what is on record.

    Raises BadInput, Unsupported, PlaceProblem; before anything is uploaded, but for the last.
    """
    store = wanted.settings.datastore or Storage(service).default()
    wanted, uploads = place_data(wanted, store)
    compiled = compile_it(wanted)
    check_images(compiled, service.cloud)
    run = new_run_id(wanted.source.pipeline.name)
    place = {
        **_place(compiled, run, service.workspace, store, uploads),
        "emulator": str(emulator.absolute()) if emulator else "",
    }
    asked = Asked(wanted.source.pipeline, wanted.inputs, AZUREML, place, wanted.configuration, wanted.source.project)
    record_run(state, database, run, asked, {f"{JOB}/{name}": text for name, text in compiled.files().items()})
    say(run)
    opened = OpenRun(state, database, run)
    try:
        AzureMLRemote(opened, service).submit()
    except BaseException:
        opened.close()
        raise
    return opened


def _place(compiled: Compiled, run: str, workspace: Workspace, store: str, uploads: list[Upload]) -> Mapping[str, Any]:
    """Return what the record keeps: everything that telling the job's nodes and metas needs, and nothing that is a secret."""
    return {
        "job": job_name(run),
        "workspace": {
            "subscription": workspace.subscription,
            "resource_group": workspace.resource_group,
            "name": workspace.name,
        },
        "datastore": store,
        "code": compiled.code_version,
        "nodes": dict(compiled.report.nodes),
        "images": {node.path: node.shape.image for node in compiled.lowered.nodes if node.path},
        "imported": dict(compiled.imported),
        "bounds": {loop.path: loop.bound for loop in compiled.flat.loops if loop.bound is not None},
        "success": compiled.success_word,
        "uploads": [vars(upload) for upload in uploads],
    }

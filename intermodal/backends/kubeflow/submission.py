"""From a pipeline and its arguments to a run on record that can be sent to Kubeflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from intermodal.backends.kubeflow.images import name_images
from intermodal.backends.kubeflow.remote import PACKAGE, KubeflowRemote, open_client
from intermodal.backends.kubeflow.settings import check_settings, load_kubeflow_settings
from intermodal.backends.remote.contract import KUBEFLOW
from intermodal.backends.remote.opened import Asked, OpenRun, record_run
from intermodal.engine.arguments import read_arguments
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.session import new_run_id
from intermodal.errors import BadInput, Unsupported
from intermodal.sources import Source


def submit(
    source: Source,
    values: Mapping[str, Any],
    images: Mapping[str, str],
    state: StateFolder,
    database: Database,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    *,
    from_file: bool,
) -> tuple[OpenRun, KubeflowRemote]:
    """Put the run on record, send it, and return it, held. Killed at any moment, `resume` goes on with what is on record.

    Raises BadInput, Unsupported and EnvironmentProblem before anything is sent, PlaceProblem.
    """
    pipeline = source.pipeline
    settings = load_kubeflow_settings(source.project, environment)
    check_settings(settings)
    request = source.request(values, "file" if from_file else "text")
    artifacts = sorted(request.arguments.keys() & pipeline.root.input_artifacts.keys())
    if artifacts:
        raise Unsupported(
            f"argument {artifacts[0]}: a run on Kubeflow takes no artifacts",
            hint="import it in the pipeline (dsl.importer)",
        )
    inputs = read_arguments(pipeline, request.arguments, _no_file, parse=request.parse)
    client = open_client(settings)
    run = new_run_id(pipeline.name)
    with tempfile.TemporaryDirectory(prefix="intermodal-") as folder:
        package = Path(folder, PACKAGE)
        package.write_text(pipeline.ir, encoding="utf-8")
        for image in name_images(package, images):
            say(f"image {image} has no digest: the cluster pulls what it finds under that name")
        text = package.read_text(encoding="utf-8")
    place = {
        "host": settings.host,
        "namespace": settings.namespace,
        "experiment": settings.experiment or pipeline.name,
        "authority": settings.authority,
    }
    asked = Asked(pipeline, inputs, KUBEFLOW, place, request.configuration, source.project)
    record_run(state, database, run, asked, {PACKAGE: text})
    say(f"run {run}")
    opened = OpenRun(state, database, run)
    try:
        remote = KubeflowRemote(opened, client)
        remote.submit()
    except BaseException:
        opened.close()
        raise
    return opened, remote


def _no_file(path: Path) -> str:
    raise BadInput(f"{path}: a run on Kubeflow takes no files")

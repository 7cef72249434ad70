"""What submitting to AzureML needs, and what of it is missing: `intermodal doctor --backend azureml`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from intermodal.backends.azureml.requests import IMAGE_LOCK, read_image_lock
from intermodal.backends.azureml.settings import AzureMLSettings, load_azureml_settings
from intermodal.cli.checks import Check
from intermodal.errors import IntermodalError
from intermodal.settings import find_project


def examine_azureml(environment: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Yield all checks: what this machine has first, then the workspace, which is asked only if all before it is there."""
    packages = _packages()
    yield packages
    yield _emulator()
    project = find_project(Path.cwd())
    try:
        settings = load_azureml_settings(project, environment)
    except IntermodalError as problem:
        yield Check("fail", "settings", problem.message, problem.hint)
        return
    checked = _settings(settings)
    yield checked
    yield _machines(settings)
    yield _images(settings, project)
    if packages.level == "ok" and checked.level == "ok":
        yield from _workspace(settings, environment)


def _packages() -> Check:
    missing = [name for name in ("azure.identity", "azure.core", "azure.storage.blob") if not _there(name)]
    if missing:
        return Check("fail", "packages", f"{', '.join(missing)} missing", "pip install 'intermodal[azureml]'")
    return Check("ok", "packages", "azure-identity, azure-core, azure-storage-blob")


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _emulator() -> Check:
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        return Check(
            "warn",
            "emulator",
            f"{', '.join(missing)} not found; only the emulator needs Node.js",
            "apt install nodejs npm",
        )
    return Check("ok", "emulator", "Node.js is here")


def _settings(settings: AzureMLSettings) -> Check:
    from intermodal.backends.azureml.cloud import check_settings

    try:
        check_settings(settings)
    except IntermodalError as problem:
        return Check("fail", "settings", problem.message, problem.hint)
    return Check("ok", "settings", f"workspace {settings.workspace} in resource group {settings.resource_group}")


def _machines(settings: AzureMLSettings) -> Check:
    if not settings.instance_types:
        return Check(
            "warn",
            "machines",
            "no instance_types: a task that asks for CPUs, memory or a GPU is refused",
            "[[tool.intermodal.azureml.instance_types]]",
        )
    return Check("ok", "machines", f"{len(settings.instance_types)} instance types")


def _images(settings: AzureMLSettings, project: Path | None) -> Check:
    try:
        lock = read_image_lock(project)
    except IntermodalError as problem:
        return Check("fail", "images", problem.message, problem.hint)
    if lock or settings.images:
        return Check("ok", "images", f"{len({*lock, *settings.images})} images have a digest in a registry")
    hint = "make images-push" if settings.registry else 'registry = "name.azurecr.io", then make images-push'
    return Check("warn", "images", f"no image is in a registry: there is no {IMAGE_LOCK}", hint)


def _workspace(settings: AzureMLSettings, environment: Mapping[str, str]) -> Iterator[Check]:
    from intermodal.backends.azureml.bodies import Workspace
    from intermodal.backends.azureml.cloud import connect, sign_in
    from intermodal.backends.azureml.service import Service

    try:
        cloud, credential = connect(environment)
        sign_in(credential, cloud.management)
    except IntermodalError as problem:
        yield Check("fail", "credential", problem.message, problem.hint)
        return
    yield Check("ok", "credential", "DefaultAzureCredential has a token")
    try:
        with Service(Workspace.of(settings), cloud, credential) as service:
            found = service.about()
    except IntermodalError as problem:
        yield Check("fail", "workspace", problem.message, problem.hint)
        return
    yield Check("ok", "workspace", f"{settings.workspace} answers, in {found.get('location', 'an unknown region')}")

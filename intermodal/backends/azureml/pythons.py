"""Whether the images of a compiled job have the Python that the launcher needs, as far as this machine can tell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from intermodal.backends.azureml.compile import Compiled
from intermodal.engine.backend import Backend
from intermodal.errors import EnvironmentProblem, Unsupported
from intermodal.spec.types import Container

_CHECK = ("python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))")


def check_pythons(compiled: Compiled, backend: Backend) -> None:
    """Raise Unsupported, naming a task and its image, if an image that is here has no Python 3.9 or newer.

    Images that the settings vouch for are not looked at; those that are not here, and all of them if no engine answers,
    are left to the node's own check.
    """
    said = compiled.settings.python_images
    images = {reference: path for reference, path in _images(compiled).items() if reference not in said}
    with ThreadPoolExecutor(4) as pool:
        problems = pool.map(lambda reference: _problem(reference, backend), images)
    for (reference, path), problem in zip(images.items(), problems, strict=True):
        if problem is not None:
            raise Unsupported(
                f"{path}: image {reference} has no Python 3.9 or newer, which the launcher on AzureML needs ({problem})",
                hint="put python3 into the image (its standard library is enough)",
            )


def _images(compiled: Compiled) -> dict[str, str]:
    """Return each image with the first task that runs in it: as AzureML pulls it, and as the pipeline writes it."""
    found: dict[str, str] = {}
    for node in compiled.lowered.nodes:
        found.setdefault(node.shape.image, node.path or "the verdict")
        container = compiled.flat.leaves[node.path].component.implementation if node.path else None
        if isinstance(container, Container) and "{{" not in container.image:
            found.setdefault(container.image, node.path)
    return found


def _problem(reference: str, backend: Backend) -> str | None:
    """Return why the launcher cannot start in an image, None if it can, or if the image is not here."""
    try:
        image = backend.image_here(reference, None)
    except EnvironmentProblem:
        return None
    try:
        if image is not None:
            backend.query(image, _CHECK)
    except EnvironmentProblem as error:
        return error.message
    return None

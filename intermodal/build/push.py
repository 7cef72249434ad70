"""Pushes the step images to a registry and writes down by which digests they are there: `images/registry.json`, which compiling reads."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.build.context import TORCH
from intermodal.errors import BadInput, EnvironmentProblem, IntermodalError

if TYPE_CHECKING:
    from docker import APIClient

_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?(/[a-z0-9][a-z0-9._-]*)*")


@dataclass(frozen=True)
class Pushed:
    """One image in a registry. `reference` is what it is called on this machine."""

    reference: str
    there: str
    """Repository and digest: `name.azurecr.io/intermodal/trainer@sha256:...`."""


def push_images(
    references: Sequence[str], registry: str, lock: Path, client: APIClient, say: Callable[[str], None]
) -> list[Pushed]:
    """Push images that are on this machine; `lock` then names each by its digest there, beside what it named before.

    The tag in the registry is made of the image's id, so that a pull by digest finds it for as long as the registry keeps tags.
    The lock is written after each image: a push that is stopped goes on where it was. Raises BadInput, EnvironmentProblem.
    """
    if not registry:
        raise BadInput(
            "[tool.intermodal.azureml] registry is not set",
            hint='registry = "name.azurecr.io", or INTERMODAL_AZUREML_REGISTRY=name.azurecr.io',
        )
    if not _REGISTRY.fullmatch(registry):
        raise BadInput(
            f"{registry!r} is no registry", hint="a host, perhaps with a port and a path: name.azurecr.io/team"
        )
    pushed = []
    for reference in references:
        say(f"pushing {reference} to {registry}")
        pushed.append(Pushed(reference, _push(reference, registry, client)))
        _write(lock, {item.reference: item.there for item in pushed})
    return pushed


def lock_baked(metadata: Path, registry: str, lock: Path) -> dict[str, str]:
    """Write down what a `docker buildx bake` pushed to `registry`, of its `--metadata-file`, and return it. Raises BadInput."""
    try:
        targets = json.loads(metadata.read_text(encoding="utf-8"))
        found = {
            f"intermodal/{name}:dev": f"{registry}/{name}@{target['containerimage.digest']}"
            for name, target in targets.items()
            if isinstance(target, dict) and name != TORCH  # warnings of the build are a list
        }
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{metadata}: is no metadata of a bake that pushed images: {error!r}") from error
    _write(lock, found)
    return found


def _push(reference: str, registry: str, client: APIClient) -> str:
    from docker.errors import APIError, ImageNotFound

    try:
        image = client.inspect_image(reference)
    except ImageNotFound as error:
        raise EnvironmentProblem(f"image {reference} is not on this machine", hint="make images") from error
    repository = f"{registry}/{reference.partition(':')[0]}"
    tag = image["Id"].removeprefix("sha256:")[:16]
    client.tag(reference, repository, tag)
    try:
        digest = ""
        for event in client.push(repository, tag, stream=True, decode=True):
            _check(event, reference, registry)
            digest = (event.get("aux") or {}).get("Digest") or digest
    except APIError as error:
        raise _refused(reference, registry, str(error.explanation or error)) from error
    finally:
        client.remove_image(f"{repository}:{tag}", noprune=True)
    if not digest:
        raise EnvironmentProblem(f"image {reference}: the registry {registry} took it but named no digest")
    return f"{repository}@{digest}"


def _check(event: Mapping[str, Any], reference: str, registry: str) -> None:
    if "error" in event:
        raise _refused(reference, registry, str(event["error"]))


def _refused(reference: str, registry: str, words: str) -> EnvironmentProblem:
    words = " ".join(words.split())
    unauthorized = any(word in words.lower() for word in ("unauthorized", "authentication", "denied"))
    login = f"az acr login --name {registry.partition('.')[0]}" if "azurecr" in registry else f"docker login {registry}"
    return EnvironmentProblem(
        f"image {reference} cannot be pushed to {registry}: {words}", hint=login if unauthorized else None
    )


def _write(lock: Path, new: Mapping[str, str]) -> None:
    try:
        known = json.loads(lock.read_text(encoding="utf-8")) if lock.is_file() else {}
    except ValueError as error:
        raise BadInput(f"{lock}: is not JSON: {error}", hint="remove it, and push again") from error
    temporary = lock.with_suffix(".part")
    temporary.write_text(json.dumps({**known, **new}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(lock)


def main() -> None:
    """`python -m intermodal.build.push METADATA REGISTRY LOCK`: what a bake pushed, into the lock that compiling reads."""
    metadata, registry, lock = sys.argv[1:]
    try:
        for reference, there in lock_baked(Path(metadata), registry, Path(lock)).items():
            print(f"{reference:<28} {there}")
    except IntermodalError as error:
        raise SystemExit(f"error: {error.message}") from error


if __name__ == "__main__":
    main()

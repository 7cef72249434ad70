"""Builds the images, each once for given inputs. BuildKit through `docker buildx bake` where it exists, else the classic builder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.build.base import ensure_base
from intermodal.build.context import BASE, TORCH, Context, Recipe, assemble, recipes, write_tar
from intermodal.errors import BadInput, EnvironmentProblem
from intermodal.turns import alone

if TYPE_CHECKING:
    from docker import APIClient

INPUTS = "io.intermodal.inputs"
"""Label of an image: the digest of everything it was built from."""


@dataclass(frozen=True)
class Built:
    """One image after a build. `seconds` is 0 if nothing had to be done."""

    name: str
    reference: str
    id: str
    size: int
    """Bytes."""
    seconds: float


def build_images(
    project: Path, state: Path, names: Sequence[str], client: APIClient, say: Callable[[str], None]
) -> list[Built]:
    """Build the named images (all if none is named) and what they stand on; `base` alone names that alone.

    Raises BadInput, EnvironmentProblem.
    """
    known = recipes(project)
    there = [BASE, *(recipe.name for recipe in known)]
    unknown = set(names) - set(there)
    if unknown:
        raise BadInput(f"no image {sorted(unknown)[0]!r}", hint=f"there are {', '.join(there)}")
    with _alone(state / "build"):
        return _build_all(known, project, state, names, client, say)


def assemble_contexts(project: Path, state: Path, folder: Path) -> list[Path]:
    """Lay out the context of every image below `folder`, for somebody else's bake. Raises BadInput, EnvironmentProblem."""
    with _alone(state / "build"):
        return [assemble(recipe, project, folder / recipe.name, state / "wheels").folder for recipe in recipes(project)]


def _alone(folder: Path) -> AbstractContextManager[int]:
    """Two builds with one state folder take turns: they share contexts and the wheel cache."""
    folder.mkdir(parents=True, exist_ok=True)
    return alone(folder / "lock", "building images")


def _build_all(
    known: Sequence[Recipe],
    project: Path,
    state: Path,
    names: Sequence[str],
    client: APIClient,
    say: Callable[[str], None],
) -> list[Built]:
    base = ensure_base(client, project, say)
    wanted = [recipe for recipe in known if not names or recipe.name in names]
    if any(recipe.on_torch for recipe in wanted) and not any(recipe.name == TORCH for recipe in wanted):
        wanted.insert(0, next(recipe for recipe in known if recipe.name == TORCH))
    built = [_build(recipe, project, state, base, client, say) for recipe in wanted]
    _record(built, base, client, state / "build/images.json")
    return built


def _record(built: Sequence[Built], base: str, client: APIClient, path: Path) -> None:
    """Write the lock of digests: the image that each reference meant on this machine after the last build."""
    images = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    described = client.inspect_image(base)
    images[BASE] = {"reference": base, "id": described["Id"], "registry": described.get("RepoDigests") or []}
    images |= {image.name: {"reference": image.reference, "id": image.id, "size": image.size} for image in built}
    path.write_text(json.dumps(images, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def reference(name: str) -> str:
    return f"intermodal/{name}:dev"


def _build(
    recipe: Recipe, project: Path, state: Path, base: str, client: APIClient, say: Callable[[str], None]
) -> Built:
    started = time.monotonic()
    context = assemble(recipe, project, state / "build" / recipe.name, state / "wheels")
    parent = reference(TORCH) if recipe.on_torch else base
    inputs = hashlib.sha256(f"{context.digest} {client.inspect_image(parent)['Id']}".encode()).hexdigest()
    if _label(client, reference(recipe.name)) != inputs:
        say(f"building {reference(recipe.name)}")
        log = state / "build" / f"{recipe.name}.log"
        arguments = {"TORCH_IMAGE" if recipe.on_torch else "BASE_IMAGE": parent}
        build = _bake if _has_bake(recipe) else _classic
        build(recipe, context, arguments, inputs, log, client)
        seconds = time.monotonic() - started
    else:
        seconds = 0.0
    shutil.rmtree(context.folder)
    image = client.inspect_image(reference(recipe.name))
    return Built(recipe.name, reference(recipe.name), image["Id"], image["Size"], seconds)


def _label(client: APIClient, image: str) -> str:
    from docker.errors import ImageNotFound

    try:
        config = client.inspect_image(image)["Config"]
    except ImageNotFound:
        return ""
    return str((config.get("Labels") or {}).get(INPUTS, ""))


def _has_bake(recipe: Recipe) -> bool:
    """Return whether bake is here and builds without a network: older ones do not know the word and pass over it."""
    docker = shutil.which("docker")
    if docker is None or not _definition(recipe).is_file():
        return False
    command = [docker, "buildx", "bake", "--file", str(_definition(recipe)), "--print", recipe.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.returncode == 0 and json.loads(done.stdout)["target"][recipe.name].get("network") == "none"


def _definition(recipe: Recipe) -> Path:
    return recipe.dockerfile.parent.parent / "docker-bake.hcl"


def _bake(
    recipe: Recipe, context: Context, arguments: dict[str, str], inputs: str, log: Path, _client: APIClient
) -> None:
    """Build one target of images/docker-bake.hcl with BuildKit."""
    command = [
        "docker",
        "buildx",
        "bake",
        "--file",
        str(_definition(recipe)),
        "--builder",
        "default",
        "--load",
        "--progress",
        "plain",
        recipe.name,
    ]
    command += ["--set", f"{recipe.name}.labels.{INPUTS}={inputs}"]
    # The state folder may lie outside of the project, where newer bakes read nothing unless they are allowed to.
    contexts = {"CONTEXTS": str(context.folder.parent), "BUILDX_BAKE_ENTITLEMENTS_FS": "0"}
    environment = {**os.environ, **contexts, **arguments}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log.write_bytes(done.stdout)
    if done.returncode:
        raise _failure(recipe.name, done.stdout.decode(errors="replace").splitlines(), log)


def _classic(
    recipe: Recipe, context: Context, arguments: dict[str, str], inputs: str, log: Path, client: APIClient
) -> None:
    """Build with the engine's own builder, which every engine has."""
    archive = context.folder.with_suffix(".tar")
    write_tar(context.folder, archive)
    lines: list[str] = []
    error = ""
    try:
        with archive.open("rb") as stream:
            events = client.build(
                fileobj=stream,
                custom_context=True,
                tag=reference(recipe.name),
                buildargs=arguments,
                labels={INPUTS: inputs},
                network_mode="none",
                rm=True,
                forcerm=True,
                decode=True,
            )
            for event in events:
                error = _note(event, lines) or error
    finally:
        archive.unlink()
        log.write_text("".join(lines), encoding="utf-8")
    if error:
        raise _failure(recipe.name, [*"".join(lines).splitlines(), error], log)


def _note(event: dict[str, Any], lines: list[str]) -> str:
    lines.append(event.get("stream", ""))
    return str(event.get("error", ""))


_STEP = re.compile(r"^Step \d+/\d+ : |^#\d+ \[[^\]]+\] ")
"""How the classic builder and BuildKit announce an instruction."""


def _failure(name: str, output: list[str], log: Path) -> EnvironmentProblem:
    """Return the error of a failed build: the image, the instruction of the Dockerfile, the last words."""
    said = [line.strip() for line in output if line.strip()]
    step = next((line for line in reversed(said) if _STEP.match(line)), "")
    last = said[-1] if said else "no output"
    where = f" at `{_STEP.sub('', step)}`" if step else ""
    before = [line for line in said[-4:-1] if line != step and not line.startswith("--->")]
    hint = " | ".join([*before, f"whole log: {log}"])
    return EnvironmentProblem(f"image {reference(name)} cannot be built{where}: {last}", hint=hint)

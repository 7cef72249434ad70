"""`intermodal build`: build the step images, hermetically; unchanged inputs rebuild nothing. `--push` brings them to a registry."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from intermodal.errors import BadInput
from intermodal.settings import find_project

if TYPE_CHECKING:
    from docker import APIClient

    from intermodal.build.images import Built
    from intermodal.build.push import Pushed

HELP = "build the step images"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="IMAGE", help="which images (default: all)")
    parser.add_argument(
        "--push",
        action="store_true",
        help="push them to the registry of [tool.intermodal.azureml], and write their digests to images/registry.json",
    )
    parser.add_argument(
        "--contexts",
        type=Path,
        metavar="FOLDER",
        help="build nothing: lay out the contexts of all images there, for `docker buildx bake --file images/docker-bake.hcl`",
    )
    parser.add_argument("--json", action="store_true", help="print what was built as JSON")


def run(args: argparse.Namespace) -> int:
    from intermodal.backends.docker.client import connect
    from intermodal.build.images import build_images

    project = find_project(Path.cwd())
    if project is None or not (project / "images").is_dir():
        raise BadInput(f"{Path.cwd()}: no project with an images/ folder here or above")
    state = args.state.absolute()
    (state / "build").mkdir(parents=True, exist_ok=True)
    if args.contexts is not None:
        from intermodal.build.images import assemble_contexts

        for folder in assemble_contexts(project, state, args.contexts):
            print(folder)
        return 0
    client = connect()
    try:
        built = build_images(project, state, args.names, client, lambda text: print(text, file=sys.stderr, flush=True))
        pushed = _push(built, project, client) if args.push else []
    finally:
        client.close()
    if args.json:
        print(json.dumps([asdict(image) for image in (pushed or built)], indent=2))
        return 0
    for image in built:
        took = f"built in {image.seconds:.0f} s" if image.seconds else "unchanged"
        print(f"{image.reference:<28} {image.size / 1e6:7.0f} MB  {took}")
    for there in pushed:
        print(f"{there.reference:<28} {there.there}")
    return 0


def _push(built: Sequence[Built], project: Path, client: APIClient) -> list[Pushed]:
    """Push all but what other images are built on: its layers go with them. Raises BadInput, EnvironmentProblem."""
    from intermodal.backends.azureml.requests import IMAGE_LOCK
    from intermodal.backends.azureml.settings import load_azureml_settings
    from intermodal.build.context import TORCH
    from intermodal.build.push import push_images

    registry = load_azureml_settings(project, os.environ).registry
    wanted = [image.reference for image in built if image.name != TORCH]
    return push_images(
        wanted, registry, project / IMAGE_LOCK, client, lambda text: print(text, file=sys.stderr, flush=True)
    )

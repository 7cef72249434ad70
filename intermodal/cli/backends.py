"""The option that says where steps run, and the backend that it names."""

from __future__ import annotations

import argparse
from pathlib import Path

from intermodal.backends.registry import Place, default_backend, make_backend
from intermodal.engine.backend import Backend
from intermodal.settings import Settings


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        default=default_backend(),
        metavar="NAME",
        help="where steps run: docker (in containers), process (as plain processes, each in its step's locked environment), host (for "
        "tests: with this machine's own tools), or one that an installed package gives (default: docker, or $INTERMODAL_BACKEND)",
    )


def chosen_backend(name: str, project: Path | None, state: Path, settings: Settings) -> Backend:
    """Return the backend for a project's pipeline; it is not asked anything yet. Raises BadInput, EnvironmentProblem."""
    place = Place(project or Path.cwd(), state.absolute(), settings.backends.get(name, {}))
    return make_backend(name, place)

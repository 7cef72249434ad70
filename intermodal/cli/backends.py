"""The option that says where steps run, and the backend that it names."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from intermodal.backends.registry import Place, default_backend, make_backend
from intermodal.engine.backend import Backend
from intermodal.engine.database import Database
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


def backend_of(database: Database, state: Path, run: str) -> Backend:
    """Return the backend that ran a run of the record, with the settings of then; it is not asked anything yet.

    Raises BadInput, EnvironmentProblem.
    """
    row = database.query("SELECT backend, request FROM runs WHERE id=?", (run,))[0]
    kept = json.loads(row["request"] or "{}")
    project = Path(kept["project"]) if kept.get("project") else None
    return chosen_backend(row["backend"], project, state, Settings.model_validate(kept.get("settings", {})))

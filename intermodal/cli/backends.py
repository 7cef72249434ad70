"""Backends by name, made only when chosen."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from intermodal.engine.backend import Backend


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=("docker", "process"),
        default=os.environ.get("INTERMODAL_BACKEND", "docker"),
        help="where steps run: in containers, or as plain processes in each step's locked environment (default: docker)",
    )


def make_backend(name: str, project: Path, state: Path) -> Backend:
    """Return the backend; it is not asked anything yet."""
    if name == "process":
        from intermodal.backends.process import ProcessBackend

        return ProcessBackend(project=project, state_dir=state.absolute())
    from intermodal.backends.docker import DockerBackend

    return DockerBackend()

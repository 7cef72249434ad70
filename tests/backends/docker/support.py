"""Images for tests, made of the base image."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

BASE = "intermodal/base:dev"


def in_image(client: Any, parent: str, source: Path, target: str, *changes: str) -> str:
    """Return the id of a new image: `parent` with the folder `source` at `target`, and more instructions of a Dockerfile."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(source, target.lstrip("/"))
    container = client.create_container(parent, command=["-"])["Id"]
    client.put_archive(container, "/", buffer.getvalue())
    made: str = client.commit(container, changes=list(changes))["Id"]
    client.remove_container(container)
    return made

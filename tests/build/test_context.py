"""Build contexts and their inputs, without an engine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from intermodal.build.context import assemble, recipes, write_tar
from intermodal.build.pip import read_pip_configuration
from intermodal.build.venv import install_lock
from intermodal.build.wheels import fetch, read_lock
from intermodal.errors import BadInput, EnvironmentProblem

DOCKERFILE = """ARG BASE_IMAGE=intermodal/base:dev
FROM ${BASE_IMAGE}
COPY build /build
COPY components/__init__.py components/kfp_io.py /app/components/
COPY components/step /app/components/step
"""


def _wheel(folder: Path, name: str) -> str:
    """Write a wheel of `name` 1.0 into `folder` and return its sha256."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.py"), "x = 1\n")
        archive.writestr(
            zipfile.ZipInfo(f"{name}-1.0.dist-info/METADATA"), f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/WHEEL"), "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/RECORD"), "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with one image `step`, whose wheels are already in the cache."""
    root = tmp_path / "project"
    for folder in ("images/step", "components/step", "requirements"):
        (root / folder).mkdir(parents=True)
    cache = tmp_path / "wheels"
    cache.mkdir()
    (root / "images/step/Dockerfile").write_text(DOCKERFILE)
    (root / "images/install").write_text("#!/bin/sh\n")
    (root / "components/__init__.py").write_text("")
    (root / "components/kfp_io.py").write_text("x = 1\n")
    (root / "components/step/__main__.py").write_text("print(1)\n")
    (root / "components/step/component.py").write_text("import kfp\n")
    (root / "components/step/README.md").write_text("# Step\n")
    for lock, name in (("components/step/requirements.txt", "alpha"), ("requirements/build.txt", "pip")):
        (root / lock).write_text(f"{name}==1.0 \\\n    --hash=sha256:{_wheel(cache, name)}\n")
    return root


def _assemble(project: Path, folder: Path) -> str:
    return assemble(recipes(project)[0], project, folder, project.parent / "wheels").digest


def test_a_context_is_the_same_bytes_each_time(project: Path, tmp_path: Path) -> None:
    first, second = _assemble(project, tmp_path / "a"), _assemble(project, tmp_path / "b")
    (project / "components/step/__main__.py").touch()
    write_tar(tmp_path / "a", tmp_path / "a.tar")
    write_tar(tmp_path / "b", tmp_path / "b.tar")
    assert first == second == _assemble(project, tmp_path / "c")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_context_holds_the_code_and_the_wheels_and_nothing_else(project: Path, tmp_path: Path) -> None:
    _assemble(project, tmp_path / "a")
    files = {path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files == {
        "Dockerfile",
        "build/install",
        "build/requirements.txt",
        "build/wheels/alpha-1.0-py3-none-any.whl",
        "build/wheels/pip-1.0-py3-none-any.whl",
        "components/__init__.py",
        "components/kfp_io.py",
        "components/step/__main__.py",
    }


@pytest.mark.parametrize(
    "path", ["components/step/__main__.py", "components/kfp_io.py", "images/install", "images/step/Dockerfile"]
)
def test_a_changed_file_changes_the_digest(project: Path, tmp_path: Path, path: str) -> None:
    before = _assemble(project, tmp_path / "a")
    (project / path).write_text((project / path).read_text() + "# changed\n")
    assert _assemble(project, tmp_path / "a") != before


@pytest.mark.parametrize("path", ["components/step/component.py", "components/step/README.md"])
def test_what_is_not_in_the_image_does_not_change_the_digest(project: Path, tmp_path: Path, path: str) -> None:
    before = _assemble(project, tmp_path / "a")
    (project / path).write_text("# changed\n")
    assert _assemble(project, tmp_path / "a") == before


def test_a_folder_that_is_copied_but_missing_is_named(project: Path, tmp_path: Path) -> None:
    with (project / "images/step/Dockerfile").open("a") as stream:
        stream.write("COPY components/absent /app/components/absent\n")
    with pytest.raises(BadInput, match="components/absent"):
        _assemble(project, tmp_path / "a")


def test_wheels_in_the_cache_are_not_asked_for_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    found = fetch(read_lock(project / "components/step/requirements.txt"), project.parent / "wheels")
    assert [wheel.name for wheel in found] == ["alpha-1.0-py3-none-any.whl"]


def test_a_wheel_that_was_changed_in_the_cache_is_not_used(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    cache = project.parent / "wheels"
    pins = read_lock(project / "components/step/requirements.txt")
    fetch(pins, cache)
    (cache / "alpha-1.0-py3-none-any.whl").write_bytes(b"not what was locked")
    with pytest.raises(EnvironmentProblem, match="alpha"):
        fetch(pins, cache)


def test_a_package_no_index_has_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"nowhere==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(EnvironmentProblem, match="nowhere"):
        fetch(read_lock(lock), tmp_path / "wheels")


def test_a_torch_that_is_not_the_cpu_build_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"torch==2.13.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(EnvironmentProblem, match=r"torch==2\.13\.0: is not the CPU build"):
        fetch(read_lock(lock), tmp_path / "wheels")


def test_pip_configuration_reaches_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://mirror.example/simple\nfind-links = /a /b\ncert = /ca.pem\n")
    for name in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://more.example/simple")
    environment = read_pip_configuration().uv_environment()
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert environment["UV_INDEX"] == "https://more.example/simple"
    assert environment["UV_FIND_LINKS"] == "/a,/b"
    assert environment["SSL_CERT_FILE"] == "/ca.pem"


def test_without_an_index_everything_comes_from_a_wheel_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/how-to/air-gapped.md says: pip's own words are all that is asked for, and the index that is named answers nobody."""
    project = Path(__file__).parents[2]
    lock = project / "requirements/build.txt"
    wheels = tmp_path / "wheels"
    fetch(read_lock(lock), wheels)
    settings = {"NO_INDEX": "1", "FIND_LINKS": str(wheels), "INDEX_URL": "http://127.0.0.1:9/", "EXTRA_INDEX_URL": ""}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    assert [wheel.name for wheel in fetch(read_lock(lock), tmp_path / "more")] == [
        path.name for path in wheels.glob("*.whl")
    ]
    python = install_lock(project, tmp_path / "environment", lock)
    listed = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path / "environment") in listed
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(EnvironmentProblem, match="pip sync"):
        install_lock(project, tmp_path / "another", lock)


def test_the_environment_is_made_from_python_alone(tmp_path: Path) -> None:
    """`make venv` runs before anything is installed: its modules may import the standard library only."""
    code = "import intermodal.build.venv"  # -S: no site-packages, so anything else fails to import
    project = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

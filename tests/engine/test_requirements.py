"""Requirements resolved by a real pip for another Python than the one that runs it, from wheels made on the spot."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from intermodal.engine.backend import Wheel
from intermodal.engine.requirements import resolve
from intermodal.engine.target import QUERY, Installed, Target
from intermodal.errors import EnvironmentProblem
from intermodal.spec.python_step import Install
from intermodal.testing.wheels import make_wheel

OLD = Target(
    {
        "implementation_name": "cpython",
        "implementation_version": "3.8.20",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "6",
        "platform_system": "Linux",
        "platform_version": "1",
        "python_full_version": "3.8.20",
        "python_version": "3.8",
        "sys_platform": "linux",
    },
    "cp38",
    ("manylinux_2_17_x86_64", "linux_x86_64"),
    (),
)

Resolve = Callable[..., list[Wheel]]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip sees."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def found(tmp_path: Path) -> Resolve:
    def go(*requirements: str, options: tuple[str, ...] = (), target: Target = OLD) -> list[Wheel]:
        return resolve([Install(requirements, options)], target, tmp_path / "wheels")

    return go


def names(wheels: list[Wheel]) -> list[str]:
    return [f"{wheel.name}=={wheel.version}" for wheel in wheels]


def test_markers_are_those_of_the_image(index: Path, found: Resolve):
    make_wheel(
        index, "a", "1.0", {}, requires=['old ; python_version < "3.9"', 'new ; python_version >= "3.9"', "both>=2"]
    )
    for name in ("old", "new", "both"):
        make_wheel(index, name, "2.0", {})
    assert names(found("a")) == ["a==1.0", "both==2.0", "old==2.0"]


def test_wheels_are_those_that_the_image_runs(index: Path, found: Resolve):
    for version, tag in [
        ("1.0", "py3-none-any"),
        ("2.0", "cp38-cp38-manylinux_2_17_x86_64"),
        ("3.0", "cp38-cp38-manylinux_2_28_x86_64"),
        ("4.0", "cp311-cp311-manylinux_2_17_x86_64"),
        ("5.0", "cp38-cp38-macosx_11_0_arm64"),
    ]:
        make_wheel(index, "a", version, {}, tag=tag)
    [wheel] = found("a")
    assert wheel.version == "2.0"
    assert wheel.path.parent.name == wheel.sha256
    assert wheel.path.read_bytes() == (index / wheel.path.name).read_bytes()


def test_what_the_image_has_is_installed_already(index: Path, found: Resolve):
    make_wheel(index, "a", "1.0", {}, requires=["b", "c>=2"])
    for name in ("b", "c"):
        for version in ("1.0", "2.0", "3.0"):
            make_wheel(index, name, version, {})
    has = [Installed(name=name, version="1.0", requires=[], extras=[]) for name in ("B", "c")]
    target = replace(OLD, installed=tuple(has))
    # b does, c is too old; nothing else moves, as with pip in the image.
    assert names(found("a", target=target)) == ["a==1.0", "c==3.0"]
    assert names(found("a", "b", options=("--upgrade",), target=target)) == ["a==1.0", "b==3.0", "c==3.0"]
    assert found("b", "C", target=target) == []


def test_installations_follow_each_other(index: Path, tmp_path: Path):
    make_wheel(index, "a", "1.0", {}, requires=["b<2"])
    make_wheel(index, "b", "1.0", {})
    make_wheel(index, "b", "2.0", {})
    first, second = Install(("a",)), Install(("b", "a"))
    assert names(resolve([first, second], OLD, tmp_path)) == ["a==1.0", "b==1.0"]
    assert names(resolve([first, Install(("b==2.0",), ("--no-deps",))], OLD, tmp_path)) == ["a==1.0", "b==2.0"]


def test_options_reach_pip(index: Path, found: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    make_wheel(index, "a", "1.0", {})
    make_wheel(index, "a", "2.0b1", {})
    assert names(found("a", options=("--find-links", str(index)))) == ["a==1.0"]
    assert names(found("a", options=("--pre", f"--find-links={index}"))) == ["a==2.0b1"]


def test_a_package_that_does_not_exist(index: Path, found: Resolve):
    with pytest.raises(EnvironmentProblem, match=r"^nothing>=1: the package index has no such version for Python 3\.8"):
        found("nothing>=1")


def test_a_source_distribution_alone(index: Path, found: Resolve):
    with tarfile.open(index / "onlysource-1.0.tar.gz", "w:gz"):
        pass
    with pytest.raises(
        EnvironmentProblem, match=r"^onlysource==1\.0: there is a source distribution, but no built wheel"
    ):
        found("onlysource==1.0")
    with pytest.raises(EnvironmentProblem, match=r"^onlysource==2\.0: the package index has no such version"):
        found("onlysource==2.0")


def test_an_index_that_does_not_answer(found: Resolve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(EnvironmentProblem, match="requests: the package index does not answer") as caught:
        found("requests", options=("--index-url", "http://name:hidden@127.0.0.1:9/simple"))
    assert "hidden" not in caught.value.message


def test_packages_that_exclude_each_other(index: Path, found: Resolve):
    make_wheel(index, "a", "1.0", {}, requires=["b<2"])
    make_wheel(index, "b", "2.0", {})
    make_wheel(index, "b", "1.0", {})
    with pytest.raises(EnvironmentProblem, match="conflict") as caught:
        found("a", "b>=2")
    assert "\n" not in caught.value.message


def test_what_an_image_says_of_itself_cannot_lead_out_of_the_scratch_folder(index: Path, found: Resolve):
    make_wheel(index, "a", "1.0", {})
    evil = [
        Installed(name="../../evil", version="1.0", requires=[], extras=[]),
        Installed(name="evil", version="../1.0", requires=[], extras=[]),
        Installed(name="c", version="1.0", requires=["d\nRequires-Dist: e"], extras=[]),
    ]
    assert names(found("a", target=replace(OLD, installed=tuple(evil)))) == ["a==1.0"]


def test_another_implementation_is_refused(found: Resolve):
    markers = {**OLD.markers, "implementation_name": "pypy", "platform_python_implementation": "PyPy"}
    with pytest.raises(EnvironmentProblem, match="the image has PyPy"):
        found("a", target=replace(OLD, markers=markers))


def test_a_python_says_what_it_is():
    import json

    said = subprocess.run([sys.executable, "-c", QUERY], check=True, capture_output=True, text=True).stdout
    target = Target.of(json.loads(said))
    assert target.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert target.abi == f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert "pytest" in {item.name for item in target.installed}
    with pytest.raises(ValueError, match="does not say its version"):
        Target.of({"abi": [], "libc": ["", ""], "markers": {}, "installed": []})
    with pytest.raises(ValueError, match="validation error"):
        Target.of({"abi": "no"})

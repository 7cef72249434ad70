"""The locks: complete, hashed, free of anything that names one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from intermodal.build.locks import Lock, locks
from intermodal.build.wheels import read_lock

PROJECT = Path(__file__).parents[2]
LOCKS = locks(PROJECT)
TORCH = PROJECT / "images/torch/requirements.txt"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _asked(source: Path) -> dict[str, str]:
    """Return name -> specifier of the requirements a .in file names, `-r` followed."""
    found = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found |= _asked(source.parent / line[3:].strip())
        elif match := re.match(r"([A-Za-z0-9._-]+)(.*)", line):
            found[_normal(match[1])] = match[2]
    return found


@pytest.fixture(params=LOCKS, ids=[lock.target.relative_to(PROJECT).as_posix() for lock in LOCKS])
def lock(request: pytest.FixtureRequest) -> Lock:
    return request.param


def test_every_step_and_both_host_environments_are_locked() -> None:
    names = {lock.target.relative_to(PROJECT).as_posix() for lock in LOCKS}
    assert {"requirements/run.txt", "requirements/dev.txt", "images/torch/requirements.txt"} <= names
    images = {path.parent.name for path in PROJECT.glob("images/*/Dockerfile")} - {"torch"}
    assert {f"components/{image}/requirements.txt" for image in images} <= names


def test_a_lock_names_no_index_and_no_path(lock: Lock) -> None:
    text = lock.target.read_text(encoding="utf-8")
    assert not re.search(r"://|file:| @ |--find-links|--index-url|--extra-index-url|(^|\s)/", text)


def test_every_line_of_a_lock_is_a_pin_or_a_hash(lock: Lock) -> None:
    lines = [line.strip().removesuffix(" \\") for line in lock.target.read_text(encoding="utf-8").splitlines()]
    pattern = re.compile(r"[A-Za-z0-9._-]+==[^\s]+( ; .+)?|--hash=sha256:[0-9a-f]{64}")
    assert [line for line in lines if not pattern.fullmatch(line)] == []


def test_every_pin_of_a_lock_has_a_hash(lock: Lock) -> None:
    assert [pin.name for pin in read_lock(lock.target) if not pin.hashes] == []


def test_a_lock_covers_what_is_asked_for(lock: Lock) -> None:
    pinned = {_normal(pin.name): pin.version for pin in read_lock(lock.target)}
    for name, specifier in _asked(lock.source).items():
        assert name in pinned, f"{name} is asked for but not locked: make lock"
        if specifier.startswith("==") and "+" in specifier:
            assert pinned[name] == specifier[2:]
        elif specifier.startswith("=="):
            assert pinned[name].split("+")[0] == specifier[2:]


def test_torch_is_the_cpu_build_wherever_it_is_locked_for_an_image() -> None:
    versions = {
        pin.version for lock in LOCKS if lock.for_image for pin in read_lock(lock.target) if pin.name == "torch"
    }
    assert versions == {"2.13.0+cpu"}


def test_the_host_has_neither_torch_nor_transformers() -> None:
    names = {pin.name for name in ("run", "dev") for pin in read_lock(PROJECT / f"requirements/{name}.txt")}
    assert not names & {"torch", "transformers"}


def test_steps_on_torch_share_the_versions_of_the_torch_base() -> None:
    base = {pin.name: pin.version for pin in read_lock(TORCH)}
    for step in ("trainer", "hpo", "converter"):
        pins = {pin.name: pin.version for pin in read_lock(PROJECT / f"components/{step}/requirements.txt")}
        assert "torch" in pins
        assert {name: pins[name] for name in pins.keys() & base.keys()} == {
            name: base[name] for name in pins.keys() & base.keys()
        }


def test_the_benchmarker_has_no_framework() -> None:
    names = {pin.name for pin in read_lock(PROJECT / "components/benchmarker/requirements.txt")}
    assert "onnxruntime" in names
    assert not names & {"torch", "transformers", "mlflow", "mlflow-skinny", "onnx"}

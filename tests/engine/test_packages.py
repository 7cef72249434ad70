"""`packages_to_install` of lightweight components, through real runs with real environments."""

import json
from pathlib import Path

import pytest
from kfp import dsl

from intermodal.engine.failure import FailureClass
from intermodal.engine.options import Options
from intermodal.testing.wheels import make_wheel
from tests.conftest import Run


@dsl.component(packages_to_install=["intermodal-top>=1"])
def use(item: str) -> str:
    import subprocess
    from importlib.metadata import version

    import intermodal_top

    said = subprocess.run(["top-hello", item], capture_output=True, text=True, check=True).stdout
    return f"{version('intermodal-top')} {intermodal_top.below()} {said.strip()}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels beside the usual index."""
    folder = tmp_path / "index"
    code = "import sys, intermodal_below\ndef below(): return intermodal_below.V\ndef hello(): print('hello', *sys.argv[1:])\n"
    make_wheel(
        folder,
        "intermodal-top",
        "1.5",
        {"intermodal_top.py": code},
        requires=["intermodal-below"],
        scripts={"top-hello": "intermodal_top:hello"},
    )
    make_wheel(folder, "intermodal-below", "0.1", {"intermodal_below.py": "V = 'below'"})
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@dsl.pipeline(name="p")
def twice() -> str:
    first = use(item="1")
    use(item="2")
    return first.output


def test_packages_come_with_what_they_need_and_are_installed_once(
    run: Run, index: Path, monkeypatch: pytest.MonkeyPatch
):
    ran = run(twice)
    assert ran.result.outputs.parameters["Output"] == "1.5 below hello 1", ran.recorder.failures
    first, second = ran.backend.launches
    assert first.image.id == second.image.id != "python:3.11"
    assert len([path for path in (ran.state / "envs").iterdir() if path.is_dir()]) == 1
    parts = dict(json.loads(ran.tasks()["use"]["parts"]))
    assert [item[:2] for item in parts["packages"]] == [["intermodal-below", "0.1"], ["intermodal-top", "1.5"]]
    assert all(len(item[2]) == 64 for item in parts["packages"])

    # From now on no pip is needed: neither to find the tasks in the cache nor to run them again.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert set(run(twice).states.values()) == {"CACHED"}
    assert set(run(twice, options=Options(cache=False)).states.values()) == {"SUCCEEDED"}


def test_a_package_that_cannot_be_had_fails_its_task_alone(run: Run, index: Path):
    @dsl.component(packages_to_install=["intermodal-no-such-package==1.0"])
    def impossible():
        pass

    @dsl.component
    def fine() -> str:
        return "fine"

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        impossible()
        return fine().output

    ran = run(pipeline)
    assert ran.states == {"impossible": "FAILED", "fine": "SUCCEEDED"}
    failure = ran.recorder.failures["impossible"]
    assert failure.kind is FailureClass.IMAGE
    assert failure.message.startswith("packages of component impossible: intermodal-no-such-package==1.0: ")
    assert "\n" not in failure.message


def test_a_venv_changes_nothing(run: Run, index: Path):
    @dsl.component(packages_to_install=["intermodal-below"], use_venv=True)
    def in_venv() -> str:
        import intermodal_below

        return intermodal_below.V

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        return in_venv().output

    ran = run(pipeline)
    assert ran.result.outputs.parameters["Output"] == "below", ran.recorder.failures

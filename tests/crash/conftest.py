"""Small pipelines on both local backends, and the truth about them: what they give when nobody is killed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from intermodal.backends.docker import DockerBackend
from tests.backends.project import make_project
from tests.crash import pipelines
from tests.crash.case import Case, Expected

IMAGES = {"docker": "intermodal/base:dev", "process": "intermodal/echo:dev"}
PIPELINES = {"docker": pipelines.small, "process": pipelines.rich}

STEPS = {
    "docker": ["make", "flaky", "work-1", "work-2", "join"],
    "process": ["make", "flaky", "work-1", "work-2", "work-3", "work-7", "work-9", "keep", "join", "tell"],
}
SAID = {
    "docker": {
        "flaky": "ok",
        "for-loop-2/0/work": "work-1:1001",
        "for-loop-2/1/work": "work-2:1001",
        "join": "work-1:1001+work-2:1001",
    },
    "process": {
        "exit-handler-1/flaky": "ok",
        "exit-handler-1/keep": "kept",
        "exit-handler-1/for-loop-3/0/work": "work-1:1001",
        "exit-handler-1/for-loop-3/1/work": "work-2:1001",
        "exit-handler-1/for-loop-3/2/work": "work-3:1001",
        "exit-handler-1/condition-branches-4/condition-5/work-2": "work-7:14",
        "exit-handler-1/nested/work": "work-9:1001",
        "exit-handler-1/join": "work-1:1001+work-2:1001+work-3:1001",
        "tell": "COMPLETE",
    },
}

MakeCase = Callable[..., Case]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one step, for the process backend: the steps of the pipelines are commands in its environment."""
    root = make_project(tmp_path_factory.mktemp("crash") / "project")
    (root / "source.txt").write_text("from elsewhere")
    return root


@pytest.fixture(scope="session")
def shared(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What takes long and is the same for all states: environments, and the content hashes of images."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def cases(project: Path, shared: Path) -> MakeCase:
    """Make a case of a backend in a folder; the pipeline is the one that is killed everywhere, if no other is named."""

    def make(backend: str, folder: Path, pipeline: Callable[[str], Any] | None = None) -> Case:
        defined = (pipeline or PIPELINES[backend])(IMAGES[backend])
        folder.mkdir(exist_ok=True)
        compiled = pipelines.compiled(defined, folder)
        arguments = {"source": str(project / "source.txt")} if defined.name == "rich" else {}
        case = Case(folder, compiled, backend, project, arguments)
        case.state.mkdir(parents=True, exist_ok=True)
        (shared / "envs").mkdir(exist_ok=True)
        (case.state / "envs").symlink_to(shared / "envs")
        if backend == "docker":
            if not (shared / "images").exists():
                engine = DockerBackend()
                engine.prepare(shared)
                engine.resolve_image(IMAGES[backend])
                engine.close()
            shutil.copytree(shared / "images", case.state / "images")
        return case

    return make


@pytest.fixture
def make_case(cases: MakeCase) -> Iterator[MakeCase]:
    """Make cases as `cases` does; whatever a failing test leaves of them is ended."""
    made: list[Case] = []

    def make(*given: Any) -> Case:
        made.append(cases(*given))
        return made[-1]

    yield make
    for case in made:
        case.close()


@pytest.fixture(scope="session")
def truth(cases: MakeCase, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Expected]:
    """Return what a backend's pipeline gives when nobody kills anything; what matters of it is written here by hand."""
    known: dict[str, Expected] = {}

    def ask(backend: str) -> Expected:
        if backend not in known:
            case = cases(backend, tmp_path_factory.mktemp("truth"))
            started = time.monotonic()
            done = case.run()
            seconds = time.monotonic() - started
            assert done.returncode == 0, done.stderr
            ends = {word: count for word, count in case.ledger().items() if word.endswith(" end")}
            assert ends == dict.fromkeys((f"{name} end" for name in STEPS[backend]), 1)
            assert case.ledger()["flaky begin"] == 2
            said = {path: outputs["parameters"].get("out") for path, (_, outputs) in case.tasks().items()}
            assert {path: text for path, text in said.items() if text} == SAID[backend]
            known[backend] = Expected(case.tasks(), ends, seconds)
            case.check(known[backend])
        return known[backend]

    return ask

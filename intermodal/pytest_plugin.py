"""The pytest plugin: pipelines in a test suite.

    def test_it_adds(intermodal_run):
        assert intermodal_run(adder, {"a": 1}).output == 2

pytest loads this in every session where Intermodal is installed, so nothing else is imported until a test asks for a run.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from intermodal.results import Run

_RUNS = pytest.StashKey[list["Run"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("intermodal", "pipelines of containers")
    for name, text in (
        ("backend", "where the steps of intermodal_run run: docker, process, host, or one that a package gives"),
        ("state", "a state folder for all tests: what ran before, in another session too, comes from its cache"),
        ("scope", "function: a state folder for each test (default); session: one for all, with its cache"),
    ):
        choices = {"choices": ["function", "session"]} if name == "scope" else {"metavar": name.upper()}
        group.addoption(f"--intermodal-{name}", help=text, **choices)
        parser.addini(f"intermodal_{name}", text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "intermodal(**options): options of intermodal.run for the test's runs, e.g. backend='docker', timeout='5m'",
    )


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave state folders out: they hold packages, with tests of their own."""
    return True if (collection_path / "intermodal.db").is_file() else None


class PipelineRunner:
    """What the fixture gives: runs pipelines as `intermodal.run` does, where the session's options say."""

    def __init__(self, options: Mapping[str, Any], runs: list[Run]) -> None:
        self.options = options
        """Options of every run of this test; those of a call win."""
        self.runs = runs
        """The runs of this test so far, failed ones too."""

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path(self.options["state"])

    def __call__(self, pipeline: Any, arguments: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """Run a pipeline; see `intermodal.run`, which takes the same options and raises the same errors."""
        from intermodal.api import run

        wanted = {**self.options, **options}
        raises = wanted.pop("raise_on_error", True)
        made = run(pipeline, arguments, raise_on_error=False, **wanted)
        self.runs.append(made)
        if raises:
            made.raise_for_failure()
        return made


@pytest.fixture(scope="session")
def intermodal_backend(pytestconfig: pytest.Config) -> Any:
    """The backend of all runs: a name, or a factory, None for the default of `intermodal.run`. Override it to bring your own."""
    return _option(pytestconfig, "backend")


@pytest.fixture
def intermodal_state(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a test's runs."""
    chosen = _option(pytestconfig, "state")
    if chosen:
        return pytestconfig.rootpath / Path(chosen).expanduser()
    from intermodal.engine.layout import StateFolder

    scope = _option(pytestconfig, "scope") or "function"
    if scope not in ("function", "session"):
        raise pytest.UsageError(f"intermodal_scope = {scope}: must be function or session")
    shared = _session_folder(pytestconfig, tmp_path_factory)
    folder = shared / "state" if scope == "session" else tmp_path_factory.mktemp("intermodal")
    cache = getattr(pytestconfig, "cache", None)
    StateFolder.at(folder).share(cache.mkdir("intermodal") if cache else shared)
    return folder


@pytest.fixture
def intermodal_run(request: pytest.FixtureRequest, intermodal_backend: Any, intermodal_state: Path) -> PipelineRunner:
    """Run pipelines: `intermodal_run(pipeline, {"name": value})` gives a `Run`, or raises RunFailed."""
    options: dict[str, Any] = {"backend": intermodal_backend, "state": intermodal_state, "progress": False}
    for marker in reversed(list(request.node.iter_markers("intermodal"))):  # the nearest one last: it wins
        options.update(marker.kwargs)
    return PipelineRunner(options, request.node.stash.setdefault(_RUNS, []))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell in the report of a failed test what its runs did, and the end of the logs of their failed tasks."""
    report = yield
    if report.failed and call.when == "call":
        for run in item.stash.get(_RUNS, []):
            told = call.excinfo is not None and getattr(call.excinfo.value, "run", None) is run
            report.sections.append((f"intermodal {run.id}", _describe(run, logs=not told)))
    return report


def _describe(run: Run, *, logs: bool) -> str:
    from intermodal.results import log_tail

    lines = [f"{run} in {run.folder}"]
    for task in run.tasks.values():
        why = f"  {task.failure.kind.value}: {task.failure.message}" if task.failure else ""
        lines.append(f"  {task.state.value:<10} {task.path}{why}")
    tails = [log_tail(task) for task in run.failed] if logs else []
    return "\n".join([*lines, *filter(None, tails)])


def _option(config: pytest.Config, name: str) -> str | None:
    """Return an option of the command line, else of the configuration file, else None."""
    return config.getoption(f"intermodal_{name}") or config.getini(f"intermodal_{name}") or None


def _session_folder(config: pytest.Config, factory: pytest.TempPathFactory) -> Path:
    """Return one folder for the whole session: also for all workers of pytest-xdist, each of which has a folder of its own."""
    base = factory.getbasetemp()
    folder = (base.parent if hasattr(config, "workerinput") else base) / "intermodal-session"
    folder.mkdir(exist_ok=True)
    return folder

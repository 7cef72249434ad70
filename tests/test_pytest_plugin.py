"""The plugin in real sessions of pytest, as an installed package brings it."""

from pathlib import Path

import pytest
from kfp import compiler, dsl

pytest_plugins = ["pytester"]
IMAGE = "intermodal/base:dev"


@dsl.container_component
def say(text: str, out: dsl.OutputPath(str)):
    script = 'echo saying "$0"; printf %s "$0" > "$1"'
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", script], args=[text, out])


@dsl.container_component
def fail(text: str):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'echo "$0" was wrong; exit 7'], args=[text])


@dsl.component(base_image=IMAGE)
def add(a: int, b: int) -> int:
    return a + b


@dsl.pipeline(name="echo")
def echo(text: str = "hello") -> str:
    return say(text=text).output


@dsl.pipeline(name="broken")
def broken(text: str = "all of it"):
    fail(text=text).after(say(text="first"))


@dsl.pipeline(name="adder")
def adder(a: int) -> int:
    return add(a=a, b=1).output


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipelines as YAML, so that no session inside a test needs to import the SDK."""
    folder = tmp_path_factory.mktemp("pipelines")
    for pipeline in (echo, broken, adder):
        compiler.Compiler().compile(pipeline, str(folder / f"{pipeline.name}.yaml"))
    return folder


@pytest.fixture
def session(pytester: pytest.Pytester, compiled: Path, monkeypatch: pytest.MonkeyPatch):
    """Run pytest on a test module that knows the pipelines, on the host backend if nothing else is said."""
    for name in ("CI", "BUILD_NUMBER"):  # with either, pytest tells a failure's whole message twice
        monkeypatch.delenv(name, raising=False)

    def run(module: str, *options: str) -> pytest.RunResult:
        names = [f"{path.stem} = {str(path)!r}" for path in compiled.iterdir()]
        pytester.makepyfile(test_it="\n".join(["import pytest", *names, module]))
        where = () if any("backend" in option for option in options) else ("--intermodal-backend", "host")
        return pytester.runpytest_subprocess("--strict-markers", *where, *options, "test_it.py")

    return run


def test_each_test_starts_afresh(session):
    done = session(
        """
        states = []

        @pytest.mark.parametrize("text", ["a", "a"])
        def test_echo(intermodal_run, text):
            run = intermodal_run(echo, {"text": text})
            assert run.output == "a" and run.backend == "host"
            assert run.tasks["say"].state == "SUCCEEDED" and run.tasks["say"].log == "saying a\\n"
            assert run.folder.is_relative_to(intermodal_run.state) and intermodal_run.runs == [run]
            assert intermodal_run(echo, {"text": text}).state == "CACHED"
            states.append(intermodal_run.state)

        def test_they_were_apart():
            assert len(set(states)) == 2
        """.replace("\n        ", "\n")
    )
    done.assert_outcomes(passed=3)
    done.stderr.no_fnmatch_line("*run echo*")


def test_a_failed_run_is_told_with_its_log(session):
    done = session(
        """
        def test_raises(intermodal_run):
            intermodal_run(broken)

        def test_looks(intermodal_run):
            run = intermodal_run(broken, {"text": "half of it"}, raise_on_error=False)
            assert run.ok, "not good"

        def test_expected(intermodal_run):
            from intermodal import RunFailed
            with pytest.raises(RunFailed, match="fail: user_code: exit code 7"):
                intermodal_run(broken)
        """.replace("\n        ", "\n")
    )
    done.assert_outcomes(failed=2, passed=1)
    done.stdout.fnmatch_lines(
        [
            "E * run broken-* failed: fail: user_code: exit code 7",
            "E * log of fail, its last lines (*log.txt)",
            "E * all of it was wrong",
            "*-- intermodal broken-* --*",
            "run broken-* failed in * s in *",
            "  SUCCEEDED  say",
            "  FAILED     fail  user_code: exit code 7",
            "*not good*",
            "*-- intermodal broken-* --*",
            "  FAILED     fail  user_code: exit code 7",
            "--- log of fail, its last lines (*log.txt)",
            "half of it was wrong",
        ]
    )
    assert done.stdout.str().count("all of it was wrong") == 1


TWICE = """
def test_first(intermodal_run):
    assert intermodal_run(echo).state == "SUCCEEDED"

def test_second(intermodal_run):
    assert intermodal_run(echo).state == "CACHED"
"""


def test_one_state_folder_may_serve_a_session(session, pytester):
    session(TWICE).assert_outcomes(passed=1, failed=1)
    session(TWICE, "--intermodal-scope=session").assert_outcomes(passed=2)
    pytester.makeini("[pytest]\nintermodal_scope = session\nintermodal_backend = host\n")
    session(TWICE, "-p", "no:cacheprovider").assert_outcomes(passed=2)
    pytester.makeini("[pytest]\nintermodal_scope = module\n")
    done = session(TWICE)
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["*intermodal_scope = module: must be function or session"])


def test_workers_of_one_session_share_it(session, pytester):
    module = """
        import os

        @pytest.mark.parametrize("number", range(4))
        def test_it(intermodal_run, number):
            assert intermodal_run(echo, {"text": str(number)}).output == str(number)
            with open("places", "a") as stream:
                print(os.environ["PYTEST_XDIST_WORKER"], intermodal_run.state, file=stream)
        """.replace("\n        ", "\n")
    session(module, "-n", "2", "--intermodal-scope=session").assert_outcomes(passed=4)
    lines = [line.split() for line in (pytester.path / "places").read_text().splitlines()]
    assert {worker for worker, _ in lines} == {"gw0", "gw1"}
    assert len({state for _, state in lines}) == 1


def test_a_state_folder_of_the_users_outlives_the_session(session, pytester):
    session(TWICE, "--intermodal-state", "kept").assert_outcomes(passed=2)
    session(TWICE, "--intermodal-state", "kept").assert_outcomes(passed=1, failed=1)
    (pytester.path / "kept" / "test_of_others.py").write_text("assert False")
    collected = pytester.runpytest_subprocess("--collect-only", "-q")
    assert collected.ret == 0 and "2 tests collected" in collected.stdout.str()


def test_the_nearest_marker_wins_and_a_call_wins_over_all(session):
    done = session(
        """
        pytestmark = pytest.mark.intermodal(no_cache=True, grace=1)

        def test_module(intermodal_run):
            assert intermodal_run(echo).state == intermodal_run(echo).state == "SUCCEEDED"

        @pytest.mark.intermodal(no_cache=False)
        def test_own(intermodal_run):
            assert intermodal_run.options["grace"] == 1
            assert [intermodal_run(echo).state for _ in "12"] == ["SUCCEEDED", "CACHED"]
            assert intermodal_run(echo, no_cache=True).state == "SUCCEEDED"
        """.replace("\n        ", "\n")
    )
    done.assert_outcomes(passed=2)


def test_a_suite_may_bring_its_own_backend(session, pytester):
    pytester.makeconftest(
        """
        import pytest
        from intermodal.testing import NullBackend

        def stand_in(launch):
            (launch.attempt_dir / "outputs/parameters/out").write_text("stand-in")
            return 0

        @pytest.fixture(scope="session")
        def intermodal_backend():
            return lambda place: NullBackend(stand_in)
        """
    )
    session("def test_it(intermodal_run):\n    assert intermodal_run(echo).output == 'stand-in'").assert_outcomes(
        passed=1
    )


LIGHTWEIGHT = """
def test_python(intermodal_run):
    assert intermodal_run(adder, {"a": 4}).output == 5
"""


def test_what_python_components_need_is_fetched_for_one_session_and_kept(session, pytester, monkeypatch):
    session(LIGHTWEIGHT).assert_outcomes(passed=1)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    session(LIGHTWEIGHT).assert_outcomes(passed=1)
    session(LIGHTWEIGHT, "--cache-clear").assert_outcomes(failed=1)


def test_sessions_that_run_no_pipeline_pay_nothing(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            heavy = {"kfp", "docker", "rich", "yaml", "pydantic", "sqlite3", "intermodal.api"}
            assert "intermodal.pytest_plugin" in sys.modules and not heavy & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


@pytest.mark.engine
def test_in_containers(session, pytester: pytest.Pytester):
    done = session(TWICE + LIGHTWEIGHT, "--intermodal-backend=docker", "--intermodal-scope=session")
    done.assert_outcomes(passed=3)
    left = list(Path(pytester.path, ".pytest_cache", "d", "intermodal", "images").iterdir())
    assert left, "the identity of the image was not kept"

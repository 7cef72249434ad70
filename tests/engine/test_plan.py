"""A plan against what the run then does: what it calls cached, to run or skipped must be so, and it may leave out nothing."""

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from kfp import compiler, dsl, kubernetes

from intermodal.engine.forecast import Verdict
from intermodal.engine.options import Options
from intermodal.engine.plan import RunPlan, make_plan
from intermodal.engine.session import Request, Session
from intermodal.errors import BadInput, EnvironmentProblem
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from tests.conftest import Ran, Recorder, Run
from tests.engine.steps import join, make, number, read, say, shell, show_list
from tests.oracle.random_ir import pipelines
from tests.oracle.stub import StubBackend
from tests.support.host import HostBackend

Planned = Callable[..., RunPlan]


@pytest.fixture
def plan(tmp_path: Path) -> Planned:
    """Plan a run of a pipeline function on the state folder that `run` uses."""

    def go(
        pipeline: Any, options: Options | None = None, backend: HostBackend | None = None, **arguments: Any
    ) -> RunPlan:
        path = tmp_path / f"{pipeline.name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        request = Request(load_pipeline(path), arguments)
        return make_plan(request, tmp_path / "state", backend or HostBackend(), Settings(), options or Options())

    return go


def verdicts(plan: RunPlan) -> dict[str, str]:
    return {task.path: task.verdict.value for task in plan.tasks}


@dsl.container_component
def listing(text: str, out: dsl.OutputPath(list)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[text, out])


@dsl.pipeline(name="chain")
def chain(text: str, other: str = "o") -> str:
    made = make(text=text)
    seen = read(data=made.outputs["data"])
    return join(left=seen.outputs["out"], right=other).outputs["out"]


@dsl.pipeline(name="branches")
def branches(word: str, late: str):
    said = say(text=late)
    with dsl.If(word == "a", name="early"):
        one = say(text="one")
    with dsl.Else():
        two = say(text="two")
    say(text=dsl.OneOf(one.output, two.output))
    with dsl.If(said.output == "a", name="late"):
        read(data=make(text="in").outputs["data"])


@dsl.pipeline(name="loops")
def loops(items: list, found: str):
    with dsl.ParallelFor(items) as item:
        first = number(value=item)
        say(text="same for all")
    show_list(values=dsl.Collected(first.outputs["out"]))
    made = listing(text=found)
    with dsl.ParallelFor(made.output) as item:
        say(text=item)


@dsl.pipeline(name="inner")
def inner(text: str, known: str) -> str:
    say(text=known)
    return say(text=text).output


@dsl.pipeline(name="nested")
def nested(text: str, known: str) -> str:
    made = make(text=text)
    seen = read(data=made.outputs["data"])
    result = inner(text=seen.output, known=known)
    return join(left=result.output, right=known).output


@dsl.pipeline(name="exits")
def exits(text: str):
    done = say(text="goodbye")
    with dsl.ExitHandler(done):
        failing = shell(script=text)
        after = join(left="a", right=failing.output)
        read(data=make(text="x").outputs["data"]).after(after)
        say(text="even so").after(failing).ignore_upstream_failure()


@dsl.pipeline(name="importing")
def importing(folder: str) -> str:
    found = dsl.importer(artifact_uri=folder, artifact_class=dsl.Dataset)
    return read(data=found.output).output


@dsl.pipeline(name="argued")
def argued(data: dsl.Input[dsl.Dataset]) -> str:
    return read(data=data).output


@dsl.pipeline(name="claims")
def claims(name: str):
    made = kubernetes.CreatePVC(pvc_name=name, access_modes=["ReadWriteOnce"], size="1Gi", storage_class_name="x")
    fresh = kubernetes.CreatePVC(
        pvc_name_suffix="-x", access_modes=["ReadWriteOnce"], size="1Gi", storage_class_name="x"
    )
    for claim in (made, fresh):
        task = say(text="mounted")
        kubernetes.mount_pvc(task, pvc_name=claim.output, mount_path="/data")
        kubernetes.DeletePVC(pvc_name=claim.output).after(task)


@dsl.pipeline(name="keyed")
def keyed(text: str):
    say(text=text).set_caching_options(True, cache_key="mine")
    say(text=text).set_caching_options(False)
    say(text=f"{text} {dsl.PIPELINE_JOB_ID_PLACEHOLDER}")


LOOPED = [([1, 2], "[]"), ([1, 2], "[]"), ([2, 3], '["a"]'), ([], "[]")]
CASES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "chain": (chain, [{"text": "a"}, {"text": "a"}, {"text": "a", "other": "b"}, {"text": "b"}]),
    "branches": (branches, [{"word": w, "late": la} for w, la in ("aa", "aa", "ba", "bb", "bb", "ab")]),
    "loops": (loops, [{"items": i, "found": s} for i, s in LOOPED]),
    "nested": (nested, [{"text": t, "known": k} for t, k in ("aa", "aa", "ba", "bb")]),
    "exits": (exits, [{"text": "exit 3"}, {"text": "exit 3"}, {"text": 'echo hi > "$1"'}, {"text": 'echo hi > "$1"'}]),
    "keyed": (keyed, [{"text": "a"}, {"text": "b"}]),
    "claims": (claims, [{"name": "c"}, {"name": "c"}, {"name": "d"}]),
}  # fmt: skip


def compare(plan: RunPlan, ran: dict[str, Any]) -> None:
    """Check each row of the plan against the record, and that every leaf of the record is in the plan."""
    for row in plan.tasks:
        if row.verdict is Verdict.UNKNOWN:
            assert row.waits_for and set(row.waits_for) <= {other.path for other in plan.tasks}
            continue
        states = {"cached": {"CACHED"}, "run": {"SUCCEEDED", "FAILED"}, "skip": {"SKIPPED"}, "fail": {"FAILED"}}
        # What would follow a success never comes to be after a failure.
        if "FAILED" not in {task["state"] for task in ran.values()}:
            assert ran[row.path]["state"] in states[row.verdict.value], row
        else:
            assert ran[row.path]["state"] in {*states[row.verdict.value], "SKIPPED"}, row
    rows = {row.path for row in plan.tasks}
    for path, task in ran.items():
        group = any(other.startswith(f"{path}/") for other in ran)
        empty = task["fingerprint"] is None and task["state"] == "CACHED"  # a loop over nothing, a graph without tasks
        covered = any(path == row or path.startswith(f"{row}/") for row in rows)
        assert group or empty or covered, (path, task["state"])


@pytest.mark.parametrize("name", CASES)
def test_the_run_does_what_the_plan_says(name: str, run: Run, plan: Planned, tmp_path: Path):
    pipeline, sequence = CASES[name]
    for arguments in sequence:
        said = plan(pipeline, **arguments)
        compare(said, run(pipeline, **arguments).tasks())


@pytest.mark.parametrize("options", [Options(cache=False), Options(no_cache_tasks=frozenset({"read"}))])
def test_caching_that_is_off_is_in_the_plan(run: Run, plan: Planned, options: Options):
    run(chain, text="a")
    said = plan(chain, options, text="a")
    compare(said, run(chain, options=options, text="a").tasks())
    off = [task.reason for task in said.tasks if task.path == "read"]
    assert "caching is off" in off[0]
    if not options.cache:
        assert set(verdicts(said).values()) == {"run"}


def test_files_are_read_for_the_plan_and_nothing_is_copied(run: Run, plan: Planned, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("one")
    run(argued, data=folder)
    ran = run(importing, folder=str(folder))
    task = "read"
    assert verdicts(plan(argued, data=folder)) == {task: "cached"}
    assert verdicts(plan(importing, folder=str(folder)))[task] == "cached"
    (folder / "file").write_text("two")
    before = sorted((ran.state / "store").rglob("*"))
    for said in (plan(argued, data=folder), plan(importing, folder=str(folder))):
        changed = next(row for row in said.tasks if row.path == task)
        assert changed.verdict is Verdict.RUN and "input data: content changed" in changed.changes[0].text
    assert sorted((ran.state / "store").rglob("*")) == before
    gone = plan(importing, folder=str(tmp_path / "none"))
    assert [row.verdict.value for row in gone.tasks] == ["fail", "skip"]
    with pytest.raises(BadInput, match="none does not exist"):
        plan(argued, data=tmp_path / "none")


def test_what_changed_is_named(run: Run, plan: Planned):
    run(chain, text="a", other="x")
    changes = {row.path: [change.text for change in row.changes] for row in plan(chain, text="a", other="y").tasks}
    assert changes == {"make": [], "read": [], "join": ["parameter right: 'x' -> 'y'"]}
    backend = HostBackend()
    backend.digests = {"shell": "sha256:0123456789abcdef"}
    first = plan(chain, backend=backend, text="a").tasks[0]
    assert [change.text for change in first.changes] == ["image changed: host:shell -> sha256:0123456789ab"]


def test_the_maker_of_a_changed_input_is_named(run: Run, plan: Planned):
    run(chain, text="b")
    run(nested, text="b", known="k")
    run(chain, text="a")
    run(chain, text="b", other="x")
    row = {task.path: task for task in plan(chain, text="a", other="y").tasks}["join"]
    assert "parameter left: 'b' -> 'a'" in [change.text for change in row.changes]

    @dsl.pipeline(name="chain")
    def other_reader(text: str):
        read(data=make(text=text).outputs["data"]).set_env_variable("NEW", "1")

    row = plan(other_reader, text="a").tasks[1]
    assert [change.text.partition(" (")[0] for change in row.changes] == [
        "input data: content changed, made by task make",
        "environment NEW added: '1'",
    ]


def test_times_are_those_of_before_and_the_whole_is_scheduled(run: Run, plan: Planned):
    @dsl.pipeline(name="timed")
    def timed(text: str):
        one, two = (shell(script=f'sleep {seconds}; printf {text} > "$1"') for seconds in (0.4, 0.8))
        say(text=one.output).after(two)

    nothing = plan(timed, text="a")
    assert nothing.seconds == 0 and nothing.unmeasured == ("shell", "shell-2", "say")
    run(timed, text="a")
    said = plan(timed, text="b")
    assert [round(row.seconds or 0) for row in said.tasks] == [0, 1, 0] and said.unmeasured == ()
    assert max(row.seconds or 0 for row in said.tasks) == pytest.approx(said.seconds, abs=0.3)
    assert said.at_most > said.seconds > 0.8
    one_at_a_time = plan(timed, Options(slots=1), text="b")
    assert one_at_a_time.seconds > said.seconds + 0.3


def test_a_plan_leaves_no_trace(run: Run, plan: Planned, tmp_path: Path):
    assert verdicts(plan(claims, name="c"))
    assert not (tmp_path / "state").exists()
    ran = run(chain, text="a")

    def trace() -> str:
        database = sqlite3.connect(ran.state / "intermodal.db")
        rows = [
            database.execute(f"SELECT * FROM {table}").fetchall() for table in ("runs", "tasks", "attempts", "cache")
        ]
        database.close()
        files = sorted(str(path) for path in ran.state.rglob("*") if "intermodal.db" not in path.name)
        return hashlib.sha256(json.dumps([rows, files]).encode()).hexdigest()

    before = trace()
    plan(chain, text="b")
    plan(claims, name="c")
    assert trace() == before


def test_what_the_run_would_refuse_the_plan_refuses(plan: Planned):
    @dsl.pipeline(name="huge")
    def huge(cpus: str):
        say(text="a").set_cpu_request(cpus)

    with pytest.raises(BadInput, match="say: asks for 4000 CPUs"):
        plan(huge, cpus="4000")
    with pytest.raises(BadInput, match="has no argument 'txet'"):
        plan(chain, txet="a")

    @dsl.container_component
    def absent():
        return dsl.ContainerSpec(image="missing")

    @dsl.pipeline(name="lost")
    def lost():
        absent()

    with pytest.raises(EnvironmentProblem, match="'missing' is not here"):
        plan(lost)


def test_an_image_that_must_be_fetched_first_is_said(run: Run, plan: Planned):
    @dsl.container_component
    def far(out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="elsewhere", command=["sh", "-c", 'echo hi > "$0"'], args=[out])

    @dsl.pipeline(name="away")
    def away():
        say(text=far().output)

    run(away)
    first, second = plan(away).tasks
    assert (
        first.verdict is Verdict.UNKNOWN
        and first.reason == "its image elsewhere is not here and would be fetched first"
    )
    assert second.verdict is Verdict.UNKNOWN and second.waits_for == ("far",)


def test_a_failure_and_a_lost_entry_are_told_apart(run: Run, plan: Planned):
    @dsl.pipeline(name="fails")
    def fails():
        shell(script="exit 3")
        say(text="a")

    ran = run(fails)
    database = sqlite3.connect(ran.state / "intermodal.db")
    database.execute("DELETE FROM cache")
    database.commit()
    database.close()
    reasons = {row.path: row.reason for row in plan(fails).tasks}
    assert reasons == {
        "shell": f"failed in run {ran.result.run_id}; only what succeeded is kept in the cache",
        "say": f"as in run {ran.result.run_id}, but its cache entry is gone",
    }


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(pipelines())
def test_random_pipelines_do_what_their_plan_says(document: dict[str, Any]):
    with tempfile.TemporaryDirectory(prefix="intermodal-random-") as name:
        path, state = Path(name) / "pipeline.yaml", Path(name) / "state"
        path.write_text(json.dumps(document), encoding="utf-8")
        request = Request(load_pipeline(path), {})
        for _ in range(2):
            said = make_plan(request, state, StubBackend(), Settings(), Options())
            with Session(state, StubBackend(), Settings(), Options()) as session:
                result = session.execute(session.runner(request, Recorder()))
            compare(said, Ran(result, Recorder(), StubBackend(), state).tasks())

"""Which tasks a screen shows: the lines of a tree, and the choice among them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import compiler, dsl

from intermodal.cli.tree import Row, fit, tree_rows
from intermodal.engine.options import Options
from intermodal.engine.session import Request, Session
from intermodal.engine.states import State
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from intermodal.testing import NullBackend
from tests.conftest import Recorder


@st.composite
def trees(draw: st.DrawFn) -> list[Row]:
    """Any tree of up to forty lines, each after the branch it is in."""
    rows: list[Row] = []
    for index in range(draw(st.integers(0, 40))):
        branches = [place for place, row in enumerate(rows) if row.total]
        parent = draw(st.sampled_from([-1, *branches]))
        depth = rows[parent].depth + 1 if parent >= 0 else 0
        rows.append(
            Row(str(index), str(index), draw(st.sampled_from(State)), parent, depth, 0, draw(st.sampled_from([0, 3])))
        )
    return rows


@given(trees(), st.integers(2, 30))
def test_what_is_shown_fits_with_its_branches_and_the_rest_is_counted(rows: list[Row], room: int):
    shown = fit(rows, room)
    assert len(shown.rows) + bool(shown.hidden) <= room
    assert [row.path for row in shown.rows] == sorted((row.path for row in shown.rows), key=int)
    seen = {row.path for row in shown.rows}
    assert all(row.parent < 0 or rows[row.parent].path in seen for row in shown.rows)
    tasks = [row for row in rows if not row.total]
    assert sum(shown.hidden.values()) == len(tasks) - sum(not row.total for row in shown.rows)
    if len(rows) <= room:
        assert shown.rows == tuple(rows)
    elif hidden := [row for row in tasks if row.path not in seen and row.parent < 0]:
        worst_hidden = min(row.rank for row in hidden)  # whoever needs no branch gave way only to those before it
        alone = [
            row for row in shown.rows if not row.total and not any(other.parent == int(row.path) for other in rows)
        ]
        assert all(row.rank <= worst_hidden or row.parent >= 0 for row in alone)


def test_a_failure_is_seen_however_little_room_there_is():
    rows = [Row(str(n), str(n), State.RUNNING, -1, 0) for n in range(100)]
    rows += [Row("loop", "loop", State.RUNNING, -1, 0, 1, 2), Row("loop/1", "1", State.FAILED, 100, 1)]
    shown = fit(rows, 4)
    assert [row.name for row in shown.rows] == ["0", "loop", "1"] and shown.hidden == {State.RUNNING: 99}


@dsl.container_component
def step(name: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="x", command=["x"], args=[name, out])


@dsl.pipeline(name="inside")
def inside(name: str):
    first = step(name=name)
    step(name="after").after(first)


@dsl.pipeline(name="deep")
def deep(items: list):
    with dsl.ParallelFor(items) as item:
        inside(name=item)
        step(name="beside")
    inside(name="good")
    with dsl.ParallelFor(items) as item:
        step(name=item)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """The tree of a run that is over, in which every step named `bad` failed."""
    path = tmp_path / "deep.yaml"
    compiler.Compiler().compile(deep, str(path))

    def behave(launch) -> int:
        (launch.attempt_dir / "outputs" / "parameters" / "out").write_text("x")
        return int("bad" in launch.args)

    with Session(tmp_path / "state", NullBackend(behave), Settings(), Options()) as session:
        runner = session.runner(Request(load_pipeline(path), {"items": ["fine", "bad", "fine"]}), Recorder())
        session.execute(runner)
    return tree_rows(runner.graph.root, lambda _path: False)


def test_of_what_is_over_only_failures_are_spread_out(rows: list[Row]):
    loops = [row.path for row in rows if row.depth == 0 and row.name.startswith("for-loop")]
    nested = next(row.path for row in rows if row.path.endswith("1/inside"))
    outer = nested.partition("/")[0]
    other = next(path for path in loops if path != outer)
    told = {row.path: (row.name, row.state.value, row.depth, row.done, row.total) for row in rows}
    good = next(name for name in told if name.startswith("inside"))
    assert told == {
        outer: (outer, "FAILED", 0, 3, 3),
        f"{outer}/1": ("1", "FAILED", 1, 2, 2),
        nested: ("inside", "FAILED", 2, 2, 2),
        f"{nested}/step": ("step", "FAILED", 3, 0, 0),
        other: (other, "FAILED", 0, 3, 3),
        next(path for path in told if path.startswith(f"{other}/1")): ("1/step-2", "FAILED", 1, 0, 0),
        good: (good, "SUCCEEDED", 0, 2, 2),
    }
    for row in rows:
        assert row.parent < 0 or (
            row.path.startswith(rows[row.parent].path + "/") and rows[row.parent].depth == row.depth - 1
        )

"""The live view of a run on a real terminal, read from its screen."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kfp import compiler, dsl

from tests.cli.test_commands import ROOT
from tests.engine.steps import say, shell
from tests.support.command import Command
from tests.support.terminal import Terminal

BASE = "intermodal/base:dev"


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Iterator[Terminal]]:
    """`with start(pipeline, *arguments, **terminal)`: run a pipeline on the host backend in a terminal."""

    @contextmanager
    def run(pipeline: object, *arguments: str, env: dict[str, str] | None = None, **options: int) -> Iterator[Terminal]:
        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        words = [sys.executable, "-m", "intermodal", "run", str(path), "--state", str(tmp_path / "state"), *arguments]
        words += [] if "--backend" in arguments else ["--backend", "host"]
        environment = {"PYTHONPATH": str(ROOT), **(env or {})}
        with Terminal(words, cwd=tmp_path, env=environment, **options) as terminal:
            yield terminal

    return run


def gated(gate: Path, before: str = "true", after: str = "true") -> str:
    return f'{before}; while ! test -e {gate}; do sleep 0.05; done; {after}; printf x > "$1"'


def lines(text: str) -> list[str]:
    """Return the lines with single spaces and no times, so that they can be compared."""
    return [re.sub(r" +", " ", re.sub(r"\b\d+\.\ds|\b\d+m\d\ds", "", line)).rstrip() for line in text.splitlines()]


def test_a_tree_that_lives_and_ends(start, tmp_path: Path):
    gate = tmp_path / "gate"

    @dsl.pipeline(name="inner")
    def inner():
        say(text="a")

    @dsl.pipeline(name="tree")
    def pipeline():
        with dsl.ParallelFor(["exit 3", gated(gate, "echo loud"), gated(gate, "echo softly")]) as item:
            shell(script=item)
        first = inner()
        shell(script=gated(gate, 'printf "\\033[2J\\033[1;1Hclear \\377"; echo')).after(first)
        say(text="later").after(first)
        with dsl.If(say(text="x").outputs["out"] == "y"):
            say(text="never")

    with start(pipeline) as terminal:
        terminal.wait_for(lambda text: "✗" in text and "softly" in text and "clear" in text and "✓ say-2" in text)
        shown = lines(terminal.text)
        loop = next(line for line in shown if "for-loop" in line)
        assert re.fullmatch(r"▶ for-loop-\d+ 1/3", loop)
        place = shown.index(loop)
        assert shown[place + 1 : place + 4] == [
            "✗ 0/shell user_code: exit code 3",
            "▶ 1/shell loud",
            "▶ 2/shell softly",
        ]
        assert "✓ inner 1/1" in shown and "▶ shell-2 clear \\xff" in shown
        assert any(re.fullmatch(r"run tree-\S+ 1 ✗ 3 ▶ 3 ✓", line) for line in shown), shown
        assert terminal.cursor_hidden and b"\x1b[1;1H" not in terminal.raw
        gate.touch()
        assert terminal.wait() == 1
        shown = lines(terminal.text)
        assert any(re.fullmatch(r"run tree-\S+ 1 ✗ 6 ✓", line) for line in shown), shown
        assert f"✗ {loop.split()[1]} 3/3" in shown and "✗ 0/shell user_code: exit code 3" in shown
        assert not [line for line in shown if "1/shell" in line] and any(
            "why: intermodal show" in line for line in shown
        )
        assert terminal.modes_restored and not terminal.cursor_hidden


def test_what_does_not_fit_is_counted_and_what_failed_is_seen(start, tmp_path: Path):
    gate = tmp_path / "gate"

    @dsl.pipeline(name="wide")
    def pipeline():
        with dsl.ParallelFor([gated(gate, f"echo task {n}") if n != 30 else "exit 9" for n in range(40)]) as item:
            shell(script=item)
        for _ in range(20):
            say(text="x")

    with start(pipeline, "--max-parallel", "50", columns=80, lines=12) as terminal:
        shown = terminal.wait_for(lambda text: "30/shell" in text and "not shown" in text and "20 ✓" in text)
        rows = shown[shown.index("run wide") :].splitlines()
        assert len(rows) <= 11 and all(len(row) <= 80 for row in rows)
        assert re.search(r"✗ +30/shell.*user_code: exit code 9", shown)
        assert re.search(r"not shown: .*\d+ running", rows[-1]) and "20 succeeded" in rows[-1]
        terminal.resize(50, 8)
        shown = terminal.wait_for(lambda text: len(text.splitlines()) <= 8 and "30/shell" in text)
        gate.touch()
        assert terminal.wait() == 1
        assert terminal.modes_restored and not terminal.cursor_hidden


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_run_that_is_stopped_gives_the_terminal_back(start, tmp_path: Path, number: signal.Signals, code: int):
    @dsl.pipeline(name="long")
    def pipeline():
        shell(script="echo up; sleep 600")

    with start(pipeline) as terminal:
        terminal.wait_for("up")
        if number is signal.SIGINT:
            terminal.interrupt()
        else:
            terminal.kill(number)
        assert terminal.wait() == code
        assert "■ shell" in terminal.text and "cancelled" in terminal.text
        assert terminal.modes_restored and not terminal.cursor_hidden


@pytest.mark.parametrize(
    "ending", ["raise RuntimeError('a defect')", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)"]
)
def test_a_crash_gives_the_terminal_back(tmp_path: Path, ending: str):
    program = (
        "import os, signal, time\nfrom intermodal.cli.progress import progress\n"
        f"with progress(live=True) as shown:\n    shown.begin('doomed', ['a note'])\n    time.sleep(0.5)\n    {ending}\n"
    )
    with Terminal([sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}) as terminal:
        terminal.wait_for("run doomed")
        assert "note: a note" in terminal.text
        assert terminal.wait() == (1 if "raise" in ending else 128 + signal.SIGTERM)
        assert not terminal.cursor_hidden and terminal.modes_restored


def test_colours_are_a_choice_and_a_dumb_terminal_gets_lines(start):
    @dsl.pipeline(name="short")
    def pipeline():
        say(text="x")

    colour = re.compile(rb"\x1b\[[0-9;]*3[0-7][;m]")
    with start(pipeline) as terminal:
        assert terminal.wait() == 0
        assert colour.search(terminal.raw)
    with start(pipeline, "--no-cache", env={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
        assert not colour.search(terminal.raw) and "✓ say" in terminal.text
    with start(pipeline, "--no-cache", env={"TERM": "dumb"}) as terminal:
        assert terminal.wait() == 0
        assert b"\x1b" not in terminal.raw and "✓ say SUCCEEDED" in terminal.text
    with start(pipeline, "--no-cache", "--plain") as terminal:
        assert terminal.wait() == 0
        assert b"\x1b" not in terminal.raw


def test_a_resumed_run_is_watched_too(start, tmp_path: Path):
    gate = tmp_path / "gate"

    @dsl.pipeline(name="again")
    def pipeline():
        shell(script=f'test -e {gate} || exit 5; echo here; sleep 2; printf x > "$1"').after(say(text="x"))

    with start(pipeline) as terminal:
        assert terminal.wait() == 1
    gate.touch()
    words = [sys.executable, "-m", "intermodal", "resume", "--state", str(tmp_path / "state")]
    with Terminal(words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}) as terminal:
        terminal.wait_for(lambda text: "▶ shell" in text and "here" in text)
        assert "✓ say" in terminal.text
        assert terminal.wait() == 0


def used(text: str) -> tuple[float, int] | None:
    """Return CPUs and MiB that the line of `work` tells."""
    found = re.search(r"work.* (\d+\.\d)c +(\d+)M\b", text)
    return (float(found[1]), int(found[2])) if found else None


BUSY = "x = bytearray(80 << 20)\nimport time\nend = time.time() + 60\nwhile time.time() < end: pass\n"


@dsl.container_component
def work():
    return dsl.ContainerSpec(image=BASE, command=["python3", "-c", BUSY])


@dsl.pipeline(name="busy")
def busy():
    work().set_cpu_limit("1")


@pytest.mark.parametrize("backend", [pytest.param("docker", marks=pytest.mark.engine), "host"])
def test_cpu_and_memory_of_what_runs(start, tmp_path: Path, backend: str):
    with start(busy, "--backend", backend) as terminal:
        terminal.wait_for(lambda text: used(text) is not None and used(text)[0] > 0.1)
        cpus, mebibytes = used(terminal.text)
        assert 0.1 < cpus < 1.5 and 80 <= mebibytes < 200
        terminal.interrupt()
        assert terminal.wait() == 130
    assert Command(tmp_path, tmp_path / "state").text("runs").count("CANCELLED") == 1


MANY = """
import sys, time
from pathlib import Path
from intermodal.cli.live import LiveProgress
from intermodal.cli.progress import PlainProgress
from intermodal.engine.options import Options
from intermodal.engine.session import Request, Session
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from intermodal.testing import NullBackend

def behave(launch):
    (launch.attempt_dir / "outputs" / "parameters" / "out").write_text("x")
    return 0

folder, live = Path(sys.argv[1]), sys.argv[2] == "live"
with Session(folder, NullBackend(behave), Settings(), Options(cache=False)) as session:
    shown = LiveProgress() if live else PlainProgress()
    runner = session.runner(Request(load_pipeline(folder.parent / "p.yaml"), {"items": list(map(str, range(1000)))}), shown)
    shown.begin(runner.run_id, [])
    shown.watch(runner.graph, runner.usage)
    began = time.process_time()
    session.execute(runner)
    took = time.process_time() - began
    if live:
        shown.end()
print(f"took {took:.3f}")
"""


def test_a_thousand_tasks_are_watched_for_little(tmp_path: Path):
    """The scheduler does not wait for who looks: what a view costs is a part of what the run itself costs."""

    @dsl.container_component
    def nothing(item: str, out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="x", command=["x"], args=[item, out])

    @dsl.pipeline(name="many")
    def pipeline(items: list):
        with dsl.ParallelFor(items) as item:
            nothing(item=item)

    compiler.Compiler().compile(pipeline, str(tmp_path / "p.yaml"))

    def seconds(kind: str) -> float:
        """Processor time: what others do on the machine counts less."""
        with Terminal(
            [sys.executable, "-c", MANY, str(tmp_path / kind), kind], env={"PYTHONPATH": str(ROOT)}
        ) as terminal:
            assert terminal.wait(300) == 0
            return float(re.search(r"took ([\d.]+)", terminal.text)[1])

    plain, live = seconds("plain"), seconds("live")
    print(f"1000 tasks: {plain:.2f} s of processor time with plain lines, {live:.2f} s with the live view")
    assert live < 1.5 * plain + 0.5

"""`intermodal logs` as typed: finished runs, and runs that go on in another process."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kfp import dsl

from intermodal.cli.targets import Target, find_target
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.errors import BadInput
from tests.cli.test_commands import ROOT, refused
from tests.conftest import Ran, Run
from tests.engine.steps import join, say, shell
from tests.support.command import Command
from tests.support.terminal import Terminal

HOSTILE = b"plain\n\xff\xfe broken \x1b[2J\x1b]0;title\x07 caf\xc3\xa9\x00\r\nlast"
ESCAPED = "plain\\n\\377\\376 broken \\033[2J\\033]0;title\\007 caf\\303\\251\\000\\r\\nlast"


def command(state: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "intermodal", "logs", "--state", str(state), *arguments]


def logs(state: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return Command(state.parent, state)("logs", *arguments)


def printed(state: Path, *arguments: str) -> str:
    done = logs(state, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def writes(text: str) -> object:
    return shell(script=f'printf "{text}"; printf x > "$1"')


def loop_of(ran: Ran) -> str:
    """Return the loop's name: the SDK numbers loops across all pipelines of a process."""
    return next(path for path in ran.states if path.startswith("for-loop") and "/" not in path)


@pytest.fixture
def ran(run: Run) -> Ran:
    """A run of `shell` (hostile bytes), `shell-2` (a hundred lines), and `shell-3` twice in a loop."""

    @dsl.pipeline(name="p")
    def pipeline():
        writes(ESCAPED)
        shell(script='for n in $(seq 100); do echo "line $n"; done; printf x > "$1"')
        with dsl.ParallelFor(["a", "b"]) as item:
            shell(script=item)

    return run(pipeline)


def test_a_pipe_gets_the_bytes_and_a_terminal_what_cannot_harm_it(ran: Ran):
    assert logs(ran.state, "shell").stdout == HOSTILE
    with Terminal(command(ran.state, "shell"), cwd=ROOT) as terminal:
        assert terminal.wait() == 0
        assert terminal.text.splitlines() == ["plain", "\\xff\\xfe broken  café", "last"]
        assert b"\x1b[2J" not in terminal.raw and b"\x1b]0" not in terminal.raw


def test_the_end_of_a_log(ran: Ran):
    assert printed(ran.state, "shell-2", "--tail", "2") == "line 99\nline 100\n"
    assert printed(ran.state, "-n", "0", "shell-2") == ""
    assert len(printed(ran.state, "shell-2", "-n", "1000").splitlines()) == 100
    assert logs(ran.state, "shell", "-n", "1").stdout == b"last"
    assert logs(ran.state, "shell", "-n", "2").stdout == HOSTILE[6:]


def test_programs_get_each_line_as_an_object(ran: Ran):
    lines = [json.loads(line) for line in printed(ran.state, "--json").splitlines()]
    assert [item["line"] for item in lines if item["task"] == "shell-2"] == [f"line {n}" for n in range(1, 101)]
    assert {item["attempt"] for item in lines} == {1}
    hostile = [item["line"] for item in lines if item["task"] == "shell"]
    assert hostile == HOSTILE.decode("utf-8", "replace").split("\n")
    assert [json.loads(line) for line in printed(ran.state, "-f", "--json", "shell").splitlines()] == [
        item for item in lines if item["task"] == "shell"
    ]


def test_all_tasks_stand_behind_their_names(ran: Ran):
    lines = logs(ran.state).stdout.split(b"\n")
    assert b"shell | \xff\xfe broken \x1b[2J\x1b]0;title\x07 caf\xc3\xa9\x00\r" in lines and b"shell | last" in lines
    assert b"shell-2 | line 100" in lines
    loop = loop_of(ran)
    failed = printed(ran.state, loop)
    assert sorted(failed.splitlines()) == [
        f"{loop}/0/shell-3 | sh: 1: a: not found",
        f"{loop}/1/shell-3 | sh: 1: b: not found",
    ]
    assert printed(ran.state, "0/shell-3") == "sh: 1: a: not found\n"
    assert logs(ran.state, "shell-3").stdout.count(b" | ") == 2


def test_a_run_may_be_named_in_each_way(ran: Ran):
    run_id = ran.result.run_id
    for words in (["shell"], [run_id, "shell"], [run_id[-4:], "shell"], [f"{run_id}/shell"], [f"{run_id[-4:]}/shell"]):
        assert logs(ran.state, *words).stdout == HOSTILE, words
    assert logs(ran.state, run_id).stdout == logs(ran.state).stdout == logs(ran.state, run_id[-4:]).stdout


def test_attempts_can_be_chosen(run: Run, tmp_path: Path):
    @dsl.pipeline(name="p")
    def pipeline(counter: str):
        script = (
            f'printf x >> {counter}; echo "try $(wc -c < {counter})"; test $(wc -c < {counter}) -ge 3; printf x > "$1"'
        )
        shell(script="set -e; " + script).set_retry(3, backoff_duration="0s")

    state = run(pipeline, counter=str(tmp_path / "count")).state
    assert printed(state, "shell").strip().endswith("try 3")
    assert "try 1" not in printed(state, "shell")
    assert "try 2" in printed(state, "shell", "--attempt", "2")
    shown = printed(state, "shell", "--attempt", "all")
    assert [line for line in shown.splitlines() if line[:3] in ("---", "try")] == [
        line for number in (1, 2, 3) for line in (f"--- shell attempt {number}", f"try {number}")
    ]  # fmt: skip
    refused_bytes(logs(state, "shell", "--attempt", "4"), "no attempt 4")


def refused_bytes(done: subprocess.CompletedProcess[bytes], *words: str) -> None:
    text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    refused(text, 2, *words)


def test_mistakes_name_what_is_there(ran: Ran, run: Run):
    refused_bytes(logs(ran.state, "shel"), "'shel'", "did you mean 'shell'?")
    refused_bytes(logs(ran.state, "nothing-like-it"), "'nothing-like-it'", "shell-2")
    refused_bytes(logs(ran.state, "no-run", "shell"), "'no-run'")
    refused_bytes(logs(ran.state, "a", "b", "c"), "at most")
    assert logs(ran.state, "--tail", "few").returncode == 2
    assert logs(ran.state, "--attempt", "0").returncode == 2


def test_a_cached_task_says_where_its_log_is(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        first = shell(script='echo once; printf x > "$1"')
        second = shell(script="exit 3").after(first)
        join(left=second.outputs["out"], right="x")

    first, again = run(pipeline), run(pipeline)
    origin = f"{first.result.run_id}/shell"
    refused_bytes(logs(again.state, "shell"), "came from the cache", f"intermodal logs {origin}")
    assert printed(again.state, origin) == "once\n"
    refused_bytes(logs(again.state, "join"), "started nothing: skipped")


# Following


@pytest.fixture
def background() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    threads: list[threading.Thread] = []

    def start(body: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=body)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


class Follower:
    """`intermodal logs -f` in a process of its own."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self.child = subprocess.Popen(
            command(state, "-f", *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.child.stdout is not None

    def line(self) -> bytes:
        return self.child.stdout.readline()

    def end(self) -> tuple[bytes, bytes, int]:
        out, err = self.child.communicate(timeout=60)
        return out, err, self.child.returncode


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = threading.Event()
    for _ in range(600):
        if condition():
            return
        deadline.wait(0.1)
    raise AssertionError("never came to pass")


def test_a_live_task_is_followed_to_its_end_in_another_process(run: Run, tmp_path: Path, background):
    gate, state = tmp_path / "gate", tmp_path / "state"
    wait = f"while ! test -e {gate}; do sleep 0.05; done"

    @dsl.pipeline(name="p")
    def pipeline():
        shell(script=f'printf "\\377begun\\n"; {wait}; printf "partial"; printf x > "$1"').set_display_name("one")
        shell(script=f'{wait}; sleep 3; printf x > "$1"')

    runner = background(lambda: run(pipeline))
    wait_until(lambda: (state / "intermodal.db").is_file() and bool(started(state)))
    follower = Follower(state, "shell")
    assert follower.line() == b"\xffbegun\n"  # while the step waits for the gate
    everything = Follower(state)
    assert everything.line() == b"shell | \xffbegun\n"
    gate.touch()
    assert follower.end() == (b"partial", b"", 0)
    assert runner.is_alive()  # the other task still runs: following a task ends with the task
    assert everything.end() == (b"shell | partial\n", b"", 0)


def started(state: Path) -> list[str]:
    database = Database(state / "intermodal.db")
    try:
        return [row["path"] for row in database.query("SELECT path FROM attempts")]
    finally:
        database.close()


def test_following_goes_on_across_attempts_and_waits_for_tasks_that_have_not_begun(
    run: Run, tmp_path: Path, background
):
    gate, second, state, counter = tmp_path / "gate", tmp_path / "second", tmp_path / "state", tmp_path / "count"

    @dsl.pipeline(name="p")
    def pipeline():
        first = shell(script=f'while ! test -e {gate}; do sleep 0.05; done; printf x > "$1"')
        tries = f"printf x >> {counter}; wc -c < {counter}; while ! test -e {second}; do sleep 0.05; done"
        script = f'set -e; {tries}; test $(wc -c < {counter}) -ge 3; printf x > "$1"'
        shell(script=script).after(first).set_retry(3, backoff_duration="0s")

    background(lambda: run(pipeline))
    wait_until(lambda: (state / "intermodal.db").is_file() and bool(started(state)))
    follower = Follower(state, "shell-2")
    refused_bytes(logs(state, "-f", "shell-22"), "did you mean 'shell-2'?")
    gate.touch()
    assert follower.line() == b"1\n"
    second.touch()
    assert follower.end() == (b"2\n3\n", b"", 0)


def test_following_ends_when_nothing_runs_the_run(ran: Ran):
    database = Database(ran.state / "intermodal.db")
    database.reopen_run(ran.result.run_id, 2)  # as a runner that was killed leaves it
    database.close()
    done = logs(ran.state, "-f", f"{loop_of(ran)}/0/shell-3")
    assert done.returncode == 0
    done = logs(ran.state, "-f")
    assert done.returncode == 0 and b"nothing runs" in done.stderr and b"shell-2 | line 100\n" in done.stdout


def test_a_path_goes_before_the_ends_of_others():
    target = Target({"id": "r"}, "train")  # type: ignore[arg-type]
    assert target.choose(["a/train", "train", "a/b/train"]) == ["train"]
    assert target.choose(["a/train", "retrain", "train-2", "train/0/x"]) == ["a/train", "train/0/x"]


def test_a_task_of_the_newest_run_goes_before_a_part_of_a_runs_name(run: Run):
    @dsl.pipeline(name="say-it")
    def pipeline():
        say(text="x")

    ran = run(pipeline)
    database = Database(ran.state / "intermodal.db")
    state = StateFolder(ran.state)
    try:
        assert find_target(database, state, ["say"]).name == "say"
        assert find_target(database, state, ["say-it"]).name is None
        with pytest.raises(BadInput, match="sayy"):
            find_target(database, state, ["sayy"])
    finally:
        database.close()

"""`plan`, `why` and `diff` as typed, before and after real runs."""

import re

import pytest
from kfp import dsl

from tests.cli.test_commands import refused
from tests.engine.steps import join, make, read, say, shell
from tests.support.typed import Command


@dsl.container_component
def train(data: dsl.Input[dsl.Dataset], rate: float, scores: dsl.Output[dsl.Metrics], out: dsl.OutputPath(str)):
    script = """
printf done > "$2"; mkdir -p "$(dirname "$3")"
printf '{"artifacts": {"scores": {"artifacts": [{"name": "scores", "metadata": {"accuracy": %s}}]}}}' "$1" > "$3"
"""
    words = [rate, out, "{{$.outputs.output_file}}", data.path]
    return dsl.ContainerSpec(image="trainer", command=["sh", "-ec", script, "sh"], args=words)


@dsl.pipeline(name="demo")
def demo(text: str = "a", rate: float = 0.1, word: str = "yes"):
    made = make(text=text)
    trained = train(data=made.outputs["data"], rate=rate)
    with dsl.If(word == "yes", name="asked"):
        say(text=trained.outputs["out"])


@pytest.fixture
def demo_yaml(intermodal: Command) -> str:
    return intermodal.write(demo)


def run(intermodal: Command, pipeline: str, *words: str) -> str:
    """Run and return the run's id."""
    return intermodal.json("run", pipeline, *words)["run"]


def test_a_plan_before_anything_ran_and_after(intermodal: Command, demo_yaml: str):
    first = intermodal.ok("plan", demo_yaml)
    assert first.splitlines()[0] == "plan of demo: nothing is started"
    assert re.search(r"run +make +nothing has run here yet", first)
    assert re.search(r"unknown train +its inputs are made by make", first)
    assert not intermodal.state.exists()
    before = run(intermodal, demo_yaml)
    assert re.search(rf"cached +make +from {before}/make", intermodal.ok("plan", demo_yaml))
    said = intermodal.ok("plan", demo_yaml, "--arg", "rate=0.2", "--arg", "word=no")
    assert re.search(rf"run +train +[\d.]+s +changed since run {before}\n +parameter rate: 0.1 -> 0.2", said)
    assert re.search(r"skip .* its condition was false: word == 'yes', with word = 'no'", said)
    assert re.search(r"3 tasks: 1 to run, 1 cached, 1 skipped; about [\d.]+s\n$", said)


def test_a_plan_as_json_has_the_documented_keys(intermodal: Command, demo_yaml: str):
    before = run(intermodal, demo_yaml)
    plan = intermodal.json("plan", demo_yaml, "--arg", "rate=0.2")
    assert sorted(plan) == ["at_most", "pipeline", "seconds", "tasks", "unmeasured"]
    make_, train_, say_ = plan["tasks"]
    keys = ["cached_from", "changes", "component", "path", "reason", "seconds", "verdict", "waits_for"]
    assert sorted(make_) == sorted(train_) == sorted(say_) == keys
    assert (make_["verdict"], make_["cached_from"]) == ("cached", f"{before}/make")
    assert train_["verdict"] == "run" and train_["changes"] == [
        {"part": "parameters", "name": "rate", "before": 0.1, "after": 0.2, "text": "parameter rate: 0.1 -> 0.2"}
    ]
    assert (say_["verdict"], say_["waits_for"]) == ("unknown", ["train"])


def test_a_plan_is_refused_as_the_run_would_be(intermodal: Command, demo_yaml: str):
    for words in (["--arg", "txet=a"], ["--arg", "rate=much"], ["--no-cache-task", "trian"], ["--max-parallel", "0"]):
        done = intermodal("plan", demo_yaml, *words)
        refused(done, 2)
        assert (intermodal("run", demo_yaml, *words).stderr, 2) == (done.stderr, done.returncode)

    @dsl.pipeline(name="huge")
    def huge(memory: str):
        made = make(text="a")
        say(text="b").after(made).set_memory_request(memory)

    for verb in ("plan", "run"):
        done = intermodal(verb, intermodal.write(huge), "--arg", "memory=64Ti")
        refused(done, 2, "say: asks for", "65536.0 GiB", "this machine has")
    assert not (intermodal.state / "runs").exists()


def test_why_names_what_changed(intermodal: Command, demo_yaml: str):
    first = run(intermodal, demo_yaml)
    assert "no entry in the cache: it had not run before" in intermodal.ok("why", "train")
    second = run(intermodal, demo_yaml, "--arg", "text=b", "--arg", "rate=0.2")
    said = intermodal.ok("why", "train").splitlines()
    assert said[:3] == [
        f"train ran and succeeded in run {second}",
        f"  it ran: no entry in the cache: changed since run {first}",
        "    parameter rate: 0.1 -> 0.2",
    ]
    assert said[3].startswith("    input data: content changed, made by task make (") and len(said) == 4
    run(intermodal, demo_yaml)
    assert intermodal.ok("why", "train").splitlines()[1] == f"  the same task as train of run {first}"
    (intermodal.folder / "pyproject.toml").write_text(
        '[tool.intermodal.backends.watched.digests]\ntrainer = "sha256:0123456789abcdef"\n'
    )
    run(intermodal, demo_yaml)
    assert "    image changed: host:trainer -> sha256:0123456789ab" in intermodal.ok("why", "train").splitlines()
    run(intermodal, demo_yaml, "--no-cache-task", "make")
    assert "it ran: caching is off for it (--no-cache-task)" in intermodal.ok("why", "make")


def test_why_of_failures_skips_and_what_never_came_to_be(intermodal: Command):
    @dsl.pipeline(name="bad")
    def bad(word: str = "no"):
        failing = shell(script="echo no >&2; exit 7").set_retry(1, backoff_duration="0s")
        join(left="a", right=failing.output)
        with dsl.If(word == "yes", name="asked"):
            say(text="never")
        with dsl.ParallelFor([1, 2], name="each"):
            shell(script="exit 3")

    done = intermodal("run", intermodal.write(bad))
    assert done.returncode == 1
    said = intermodal.ok("why", "shell").split("\n")
    assert said[0].startswith("shell failed in run bad-") and said[1] == "  user_code: exit code 7"
    assert said[2] == "  after 2 attempts" and "  log: " in said[4]
    assert intermodal.ok("why", "join").split("\n")[1] == "  upstream shell failed"
    group = next(row["path"] for row in intermodal.json("show")["tasks"] if row["path"].startswith("condition"))
    assert "its condition was false: word == 'yes', with word = 'no'" in intermodal.ok("why", group)
    absent = intermodal.json("why", "say")
    assert [(item["state"], item["path"]) for item in absent] == [("ABSENT", f"{group}/say")]
    assert absent[0]["reason"].startswith(f"{group}, which it is in, was skipped: its condition was false")
    loop = next(row["path"] for row in intermodal.json("show")["tasks"] if row["path"].endswith("/0/shell-2"))[:-10]
    found = intermodal.json("why", loop)[0]
    assert found["inside"] == {"FAILED": 2} and len(found["failed_inside"]) == 2
    assert len(intermodal.json("why", "shell-2")) == 2
    refused(intermodal("why", "nothing"), 2, "has no task 'nothing'")
    refused(intermodal("why", found["run"]), 2, "names a run, not a task")


def test_why_as_json_has_the_documented_keys(intermodal: Command, demo_yaml: str):
    run(intermodal, demo_yaml)
    (found,) = intermodal.json("why", "train")
    assert sorted(found) == [
        "attempts", "cached_from", "changes", "compared_with", "component", "failed_inside", "failure", "inside", "log", "path",
        "reason", "run", "state",
    ]  # fmt: skip


def test_a_diff_tells_what_differs_task_by_task(intermodal: Command, demo_yaml: str):
    first = run(intermodal, demo_yaml)
    second = run(intermodal, demo_yaml, "--arg", "rate=0.2", "--arg", "word=no")
    said = intermodal.ok("diff", first).splitlines()
    assert said[0].startswith(f"- {first}  SUCCEEDED") and said[1].startswith(f"+ {second}  SUCCEEDED")
    assert said[2:4] == ["  argument rate: 0.1 -> 0.2", "  argument word: 'yes' -> 'no'"]
    tasks = "\n".join(said[4:])
    assert re.search(r"^~ train .*SUCCEEDED [\d.]+s -> SUCCEEDED [\d.]+s$", tasks, re.M)
    assert "    parameter rate: 0.1 -> 0.2\n    output scores: accuracy: 0.1 -> 0.2" in tasks
    assert re.search(r"^- condition-\S+/say ", tasks, re.M) and not re.search(r"^. make", tasks, re.M)
    assert tasks.endswith("4 tasks, 1 the same")
    assert re.search(r"^  make +SUCCEEDED [\d.]+s -> CACHED", intermodal.ok("diff", first, second, "--all"), re.M)
    back = intermodal.json("diff", second, first)
    assert {change["text"] for change in back["changes"]} == {
        "argument rate: 0.2 -> 0.1",
        "argument word: 'no' -> 'yes'",
    }
    assert sorted(back) == ["changes", "runs", "tasks"]
    assert sorted(back["tasks"][0]) == ["changes", "outputs", "path", "same", "seconds", "states"]


def test_a_diff_of_a_run_with_itself_or_its_cached_twin_is_empty(intermodal: Command, demo_yaml: str):
    first = run(intermodal, demo_yaml)
    second = run(intermodal, demo_yaml)
    for pair in ((first, first), (first, second)):
        found = intermodal.json("diff", *pair)
        assert found["changes"] == [] and all(task["same"] for task in found["tasks"])


def test_a_diff_of_what_read_and_made_data(intermodal: Command):
    @dsl.pipeline(name="data")
    def data(text: str):
        read(data=make(text=text).outputs["data"])

    pipeline = intermodal.write(data)
    first, second = (run(intermodal, pipeline, "--arg", f"text={text}") for text in "ab")
    changes = {task["path"]: task for task in intermodal.json("diff", first, second)["tasks"]}
    assert changes["make"]["outputs"][0]["text"].startswith("output data: content changed (")
    assert changes["read"]["changes"][0]["text"].startswith("input data: content changed, made by task make (")
    assert [change["text"] for change in changes["read"]["outputs"]] == ["output out: 'a' -> 'b'"]

"""Control flow, feature by feature: the engine and the oracle must agree, and both with what is written here by hand."""

import json

import pytest
from kfp import dsl

from tests.engine.steps import join, make, number, read, say, shell, show_list
from tests.oracle.conftest import Agree


@dsl.container_component
def show_all(data: dsl.Input[list[dsl.Dataset]], out: dsl.OutputPath(str)):
    """Write the content of every artifact of a list, in order."""
    script = "import json, sys; found = json.loads(sys.argv[1])\n"
    script += "paths = [one.get('custom_path') or one['uri'] for one in found]\n"
    script += "open(sys.argv[2], 'w').write(' '.join(open(path + '/file').read() for path in paths))"
    return dsl.ContainerSpec(image="shell", command=["python3", "-c", script], args=[data, out])


@dsl.container_component
def show(struct: dict, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[struct, out])


@dsl.container_component
def structs(out: dsl.OutputPath(list[dict])):
    script = """printf %s '[{"a":1,"b":[10,20]},{"a":2,"b":[30]}]' > "$1" """
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=[out])


@pytest.mark.parametrize(("value", "branch"), [(1, "one"), (2, "two"), (3, "many")])
def test_if_elif_else_and_one_of(agree: Agree, value: int, branch: str):
    @dsl.pipeline(name="p")
    def pipeline(value: int) -> str:
        first = number(value=value)
        with dsl.If(first.outputs["out"] == 1):
            one = say(text="one")
        with dsl.Elif(first.outputs["out"] == 2):
            two = say(text="two")
        with dsl.Else():
            many = say(text="many")
        return dsl.OneOf(one.outputs["out"], two.outputs["out"], many.outputs["out"])

    seen = agree(pipeline, value=value)
    assert seen.outputs == {"Output": branch}
    branches = [f"condition-branches-1/condition-{number}" for number in (2, 3, 4)]
    assert [seen.states[path] for path in branches].count("SKIPPED") == 2


def test_one_of_artifacts_inside_and_at_the_end_of_a_pipeline(agree: Agree):
    @dsl.pipeline(name="inner")
    def inner(value: str) -> dsl.Dataset:
        with dsl.If(value == "a"):
            one = make(text="from a")
        with dsl.Else():
            two = make(text="from b")
        return dsl.OneOf(one.outputs["data"], two.outputs["data"])

    @dsl.pipeline(name="p")
    def pipeline(value: str) -> str:
        return read(data=inner(value=value).output).outputs["out"]

    assert agree(pipeline, value="a").outputs == {"Output": "from a"}
    assert agree(pipeline, value="x").outputs == {"Output": "from b"}


def test_loops_over_constants_arguments_outputs_and_nothing(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline(items: list, none: list = []):  # noqa: B006
        made = structs()
        with dsl.ParallelFor(["1", "2.5", "x"]) as item:
            say(text=item)
        with dsl.ParallelFor(items, parallelism=1) as item:
            say(text=item)
        with dsl.ParallelFor(made.outputs["out"]) as item:
            show(struct=item)
        with dsl.ParallelFor(none) as item:
            say(text=item)

    seen = agree(pipeline, items=["p", "q"])
    given = [seen.given(f"for-loop-2/{index}/say")["text"] for index in range(3)]
    assert given == ["1", "2.5", "x"]
    assert [seen.given(f"for-loop-3/{index}/say-2")["text"] for index in range(2)] == ["p", "q"]
    assert seen.given("for-loop-4/1/show")["struct"] == {"a": 2, "b": [30]}
    assert seen.states["for-loop-5"] == "SUCCEEDED" and "for-loop-5/0" not in seen.states


def test_loops_over_fields_of_items(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        made = structs()
        with dsl.ParallelFor(made.outputs["out"]) as item, dsl.ParallelFor(item.b) as sub:
            joined = join(left=item.a, right=sub)
        return show_list(values=dsl.Collected(joined.outputs["out"])).outputs["out"]

    assert json.loads(agree(pipeline).outputs["Output"]) == [["1|10", "1|20"], ["2|30"]]


def test_values_from_outside_a_loop_stay_what_they_are(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline(extra: int = 7) -> str:
        upstream = say(text="UP")
        with dsl.ParallelFor(["1", "2"]) as a:
            middle = join(left=upstream.outputs["out"], right=a)
            with dsl.ParallelFor(["x", "y"]) as b:
                inner = join(left=b, right=f"{extra}")
                last = join(left=middle.outputs["out"], right=inner.outputs["out"])
        return show_list(values=dsl.Collected(last.outputs["out"])).outputs["out"]

    expected = [[f"UP|{a}|{b}|7" for b in "xy"] for a in (1, 2)]
    assert json.loads(agree(pipeline).outputs["Output"]) == expected


def test_a_loop_within_a_loop_over_the_same_list(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline(items: list) -> str:
        with dsl.ParallelFor(items) as a, dsl.ParallelFor(items) as b:
            joined = join(left=a, right=b)
        return show_list(values=dsl.Collected(joined.outputs["out"])).outputs["out"]

    # The SDK gives both items one name, so the inner one hides the outer.
    assert json.loads(agree(pipeline, items=["x", "y"]).outputs["Output"]) == [["x|x", "y|y"], ["x|x", "y|y"]]


def test_skipped_iterations_contribute_nothing(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        with dsl.ParallelFor([1, 2, 3, 4]) as item, dsl.If(item > 2):
            kept = say(text=f"kept {item}")
        return show_list(values=dsl.Collected(kept.outputs["out"])).outputs["out"]

    seen = agree(pipeline)
    assert json.loads(seen.outputs["Output"]) == ["kept 3", "kept 4"]
    assert [seen.states[f"for-loop-2/{index}/condition-3"] for index in range(4)] == ["SKIPPED"] * 2 + ["SUCCEEDED"] * 2


def test_collected_artifacts_are_flat(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        with dsl.ParallelFor(["a", "b"]) as first, dsl.ParallelFor(["1", "2"]) as second:
            made = make(text=join(left=first, right=second).outputs["out"])
        return show_all(data=dsl.Collected(made.outputs["data"])).outputs["out"]

    assert agree(pipeline).outputs == {"Output": "a|1 a|2 b|1 b|2"}


def test_a_loop_over_artifacts(agree: Agree):
    @dsl.pipeline(name="inner")
    def inner(data: list[dsl.Dataset]) -> list[str]:
        with dsl.ParallelFor(data) as item:
            one = read(data=item)
        return dsl.Collected(one.outputs["out"])

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        with dsl.ParallelFor(["a", "b"]) as item:
            made = make(text=item)
        return show_list(values=inner(data=dsl.Collected(made.outputs["data"])).output).outputs["out"]

    assert agree(pipeline).outputs == {"Output": '["a","b"]'}


def test_one_bad_item_fails_its_iteration_alone(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline():
        with dsl.ParallelFor([1, "two", 3]) as item:
            number(value=item)

    seen = agree(pipeline)
    states = [seen.states[f"for-loop-2/{index}"] for index in range(3)]
    assert states == ["SUCCEEDED", "FAILED", "SUCCEEDED"] and seen.states["for-loop-2"] == "FAILED"


def test_a_loop_over_what_nobody_gave_fails_by_name(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline(items: list = None):  # noqa: RUF013
        with dsl.ParallelFor(items) as item:
            say(text=item)

    seen = agree(pipeline)
    assert seen.states["for-loop-1"] == "FAILED" and "has no value" in seen.failures["for-loop-1"]


@dsl.container_component
def last(status: dsl.PipelineTaskFinalStatus, word: str, out: dsl.OutputPath(str)):
    script = "import json, sys; open(sys.argv[3], 'w').write(sys.argv[1] + ' ' + json.loads(sys.argv[2])['state'])"
    args = [word, "{{$.inputs.parameters['status']}}", out]
    return dsl.ContainerSpec(image="shell", command=["python3", "-c", script], args=args)


@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETE"), (3, "FAILED")])
def test_exit_handlers_and_the_final_status(agree: Agree, code: int, state: str):
    @dsl.pipeline(name="p")
    def pipeline(script: str):
        with dsl.ExitHandler(last(word="bye")):
            task = shell(script=script)
            say(text=task.outputs["out"])

    seen = agree(pipeline, script=f'printf x > "$1"; exit {code}')
    status = seen.graph.root.nodes["last"].iterations[0].inputs.parameters["status"]
    assert (status["state"], status["pipelineTaskName"]) == (state, "exit-handler-1")
    assert status["pipelineJobResourceName"].startswith("p-")
    assert status["error"] == ({"message": "exit-handler-1/shell: exit code 3"} if code else {})
    assert seen.states["last"] == "SUCCEEDED"
    assert seen.states["exit-handler-1/say"] == ("SKIPPED" if code else "SUCCEEDED")
    assert seen.states[""] == ("FAILED" if code else "SUCCEEDED")


def test_ignore_upstream_failure_takes_the_default_of_what_is_missing(agree: Agree):
    @dsl.container_component
    def tidy(out: dsl.OutputPath(str), text: str = "nothing came"):
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[text, out])

    @dsl.pipeline(name="p")
    def pipeline(script: str) -> str:
        task = shell(script=script)
        return tidy(text=task.outputs["out"]).ignore_upstream_failure().outputs["out"]

    seen = agree(pipeline, script="exit 1")
    assert seen.outputs == {"Output": "nothing came"}
    assert (seen.states["tidy"], seen.states[""]) == ("SUCCEEDED", "FAILED")
    assert agree(pipeline, script='printf fine > "$1"').outputs == {"Output": "fine"}


def test_a_failure_skips_what_needs_it_and_nothing_else(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline():
        bad = shell(script="exit 1")
        after = say(text="after").after(bad)
        join(left=bad.outputs["out"], right=after.outputs["out"])
        with dsl.If(bad.outputs["out"] == "x"):
            say(text="inside")
        say(text="independent")

    assert agree(pipeline).states == {
        "": "FAILED", "shell": "FAILED", "say": "SKIPPED", "join": "SKIPPED", "condition-1": "SKIPPED", "say-3": "SUCCEEDED",
    }  # fmt: skip


def test_a_condition_without_an_answer_is_a_failure_and_not_a_skip(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline(text: str = None):  # noqa: RUF013
        with dsl.If(text == "a"):
            say(text="x")

    seen = agree(pipeline)
    assert seen.states["condition-1"] == "FAILED" and "has no value" in seen.failures["condition-1"]

"""Documents made to harm: each is refused with one line that says where, in little time and memory, and nothing is started."""

import copy
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl, kubernetes

from intermodal.bounded import MAX_DEPTH, check_value, parse_json
from intermodal.conditions import evaluate
from intermodal.engine.failure import Failure, FailureClass
from intermodal.errors import BadInput, IntermodalError, one_line
from intermodal.settings import load_settings
from intermodal.sources import read_values
from intermodal.spec.document import plain
from intermodal.spec.load import build_pipeline, load_pipeline
from tests.trust.conftest import Command

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@dsl.container_component
def step(text: str, number: int, items: list, out: dsl.OutputPath(str), data: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(
        image="image", command=["a", dsl.ConcatPlaceholder(["x", text])],
        args=[dsl.IfPresentPlaceholder(input_name="number", then=["--n", number]), items, out, data.path],
    )  # fmt: skip


@dsl.container_component
def last(status: dsl.PipelineTaskFinalStatus):
    return dsl.ContainerSpec(image="image", command=["b", status])


@dsl.component
def python(x: int = 3) -> str:
    return str(x)


@dsl.pipeline(name="inner")
def inner(text: str) -> str:
    return step(text=text, number=1, items=[1]).outputs["out"]


@dsl.pipeline(name="everything")
def everything(text: str = "t", items: list = [1, 2], number: int = 3) -> str:  # noqa: B006
    with dsl.ExitHandler(last()):
        first = step(text=text, number=number, items=items).set_cpu_limit("1").set_memory_limit("1G").set_retry(2)
        kubernetes.use_secret_as_env(first, "s", {"k": "V"})
        kubernetes.use_config_map_as_volume(first, "c", "/c")
        kubernetes.mount_pvc(first, "claim", "/v")
        kubernetes.add_pod_label(first, "a", "b")
        kubernetes.set_timeout(first, 5)
        with dsl.ParallelFor(items, parallelism=2) as item:
            python(x=item)
        with dsl.If(first.outputs["out"] == "x"):
            python()
        with dsl.Else():
            inner(text="z")
        dsl.importer(artifact_uri="/x", artifact_class=dsl.Dataset, metadata={"a": "b"})
    return inner(text=text).output


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("ir") / "everything.yaml"
    compiler.Compiler().compile(everything, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def ir(documents: list[dict[str, Any]], path: Path, **root: Any) -> Path:
    path.write_text(yaml.safe_dump_all([{**documents[0], **root}, documents[1]]))
    return path


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (LAUGHS, "values"),
        ("a: &a [*a]\n", "deeper"),
        ("a: " + "[" * 90_000, "nest"),
        ("a: " + "[" * 200 + "]" * 200, "deeper"),
        ("- " * 50_000 + "a", "nest"),
        ('a: "\\ud800"\n', ""),
        ("1: x\n", "not text"),
        ("? [a]\n: x\n", ""),
        ("a: .nan\n", "nan"),
        ("a: !!python/object/apply:os.system [id]\n", "YAML"),
        ("a: !!binary aGk=\n", "bytes"),
        ("a: !!set {x}\n", "set"),
        ("a\0: b", "YAML"),
        ("\x1b]0;title\x07: [", "YAML"),
    ],
)
def test_yaml_that_bursts(tmp_path: Path, content: str, word: str):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    started, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (lambda: load_pipeline(path), lambda: read_values(path, [])):
        with pytest.raises(BadInput) as error:
            read()
        message = error.value.message
        assert "p.yaml" in message and word in message and message.isprintable() and len(message) <= 1000
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 400 * 1024


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path):
    path = tmp_path / "p.yaml"
    with path.open("w") as stream:
        stream.truncate(2**40)
    with pytest.raises(BadInput, match="too many"):
        load_pipeline(path)


def test_a_date_is_text(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("day: 2026-11-25\n")
    assert read_values(tmp_path / "c.yaml", []) == {"day": "2026-11-25"}


@pytest.mark.parametrize(
    ("text", "word"),
    [("[" * 90_000, "deeper"), ("[" * 101 + "]" * 101, "deeper"), ("[NaN]", "NaN"), ("1e999", "inf"), ('"\\udc80"', "no text"),
     ('{"\\ud800": 1}', "no text"), ("9" * 5000, "digits"), ("[" + "0," * 2_000_000 + "0]", "values")],
)  # fmt: skip
def test_json_that_is_none(text: str, word: str):
    with pytest.raises(ValueError, match=word):
        parse_json(text)
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


HOSTILE: list[Any] = [
    None, "", 0, -1, 1e308, 10**30, True, [], {}, "x", "../x", "a/b", "\n", "\x1b[31m", "{{$}}", "{{$.inputs.parameters['x']}}", [None],
    [[]], {"a": None}, {"": ""}, "x" * 1000, "nan", "1e999s", [{}], {"a": {}}, 3.5, "'", "(" * 2000, {"a": 1}, "\u202e",
]  # fmt: skip


def test_a_document_changed_anywhere_loads_or_is_refused(documents: list[dict[str, Any]]):
    """Whatever stands in whatever place: never a traceback. The seed is fixed, so that a failure can be done again."""
    chance = random.Random(20261125)
    counted = {True: 0, False: 0}
    deadline = time.monotonic() + 20
    for _ in range(3000):
        changed = copy.deepcopy(documents)
        for _ in range(chance.choice([1, 1, 2])):
            *parents, last = chance.choice(list(places(changed))[1:])
            target: Any = changed
            for key in parents:
                target = target[key]
            if isinstance(target, dict) and chance.random() < 0.2:
                target[chance.choice(["x", "a/b", "", "../x", "\n"])] = target.pop(last)
            else:
                target[last] = copy.deepcopy(chance.choice(HOSTILE))
        if not all(isinstance(item, dict) for item in changed):
            continue
        check_value(changed)
        try:
            build_pipeline(plain(changed[0]), plain(changed[1]))
            counted[True] += 1
        except IntermodalError as error:
            counted[False] += 1
            assert error.message.isprintable() and len(error.message) <= 1000
        if time.monotonic() > deadline:
            break
    assert min(counted.values()) > 50


TASKS, COMPONENTS = ("root", "dag", "tasks"), ("components",)
OUTPUTS = ("components", "comp-step", "outputDefinitions", "parameters")
UNSEEN = ["", "\n", "a\0b", "\x1b[2J", "\u202eexe", "x" * 501]


@pytest.mark.parametrize(
    ("path", "name"),
    [*((p, n) for p in (TASKS, COMPONENTS, OUTPUTS) for n in UNSEEN), (TASKS, "a/b"), (COMPONENTS, "root")],
)
def test_names_that_cannot_be_shown_are_refused(documents: list[dict[str, Any]], path: tuple[str, ...], name: str):
    changed = copy.deepcopy(documents[0])
    target = changed
    for key in path:
        target = target[key]
    target[name] = copy.deepcopy(next(iter(target.values())))
    with pytest.raises(BadInput, match="name") as error:
        build_pipeline(changed, {})
    assert error.value.message.isprintable()


@pytest.mark.parametrize(
    "name", ["../x", "a b", "%2e%2e", "x" * 300, "ü", "\U0001f600", "-rf", "$(id)", ";", "'\"", "CON", "."]
)
def test_names_that_are_only_odd_are_taken(documents: list[dict[str, Any]], name: str):
    changed = copy.deepcopy(documents[0])
    outputs = changed["components"]["comp-step"]["outputDefinitions"]["parameters"]
    outputs[name] = dict(outputs["out"])
    assert name in build_pipeline(changed, {}).components["comp-step"].output_parameters


def nested(documents: list[dict[str, Any]], depth: int, width: int) -> dict[str, Any]:
    changed = copy.deepcopy(documents[0])
    for level in range(depth):
        used = f"comp-level-{level + 1}" if level + 1 < depth else "comp-python"
        tasks = {f"t{n}": {"componentRef": {"name": used}, "taskInfo": {"name": f"t{n}"}} for n in range(width)}
        changed["components"][f"comp-level-{level}"] = {"dag": {"tasks": tasks}}
    changed["root"] = {"dag": {"tasks": {"t": {"componentRef": {"name": "comp-level-0"}, "taskInfo": {"name": "t"}}}}}
    return changed


@pytest.mark.parametrize(("depth", "width"), [(12, 10), (3000, 1)])
def test_a_pipeline_that_bursts_is_refused(documents: list[dict[str, Any]], depth: int, width: int):
    with pytest.raises(IntermodalError, match="too large"):
        build_pipeline(nested(documents, depth, width), {})
    assert build_pipeline(nested(documents, 3, 3), {}).name == "everything"


@pytest.mark.parametrize("condition", ["(" * 9000 + "true" + ")" * 9000, "!" * 90_000 + "true", "'" * 9001])
def test_a_condition_that_bursts_is_refused(condition: str):
    with pytest.raises(BadInput, match="task x"):
        evaluate(condition, {}, "task x")


def test_messages_are_one_line_that_a_terminal_may_print():
    hostile = "a\nb\x1b]0;owned\x07\x9b31m\u202e\ud800" + "x" * 5000
    for text in (
        BadInput(hostile, hint=hostile).message,
        BadInput("", hint=hostile).hint,
        Failure(FailureClass.IMAGE, hostile).message,
    ):
        assert text is not None and text.isprintable() and len(text) <= 1100
        assert text.startswith("a b\\x1b]0;owned\\x07\\x9b31m\\u202e\\ud800xxx") and text.endswith("…")
    assert one_line("it's plain: ü €") == "it's plain: ü €"


def test_the_command_says_it_in_one_line(intermodal: Command, documents: list[dict[str, Any]]):
    changed = copy.deepcopy(documents)
    changed[0]["root"]["dag"]["tasks"]["\x1b[2J\n"] = {}
    bad = ir(changed, intermodal.folder / "p.yaml")
    for arguments in ([str(bad)], [str(bad), "--config", "\x1b[2J\n"], ["\x1b[2J\n.yaml"]):
        done = intermodal("run", *arguments)
        assert done.returncode == 2 and done.stderr.startswith(b"error: ")
        lines = done.stderr.decode().splitlines()
        assert len(lines) <= 2 and all(line.isprintable() for line in lines)
    assert not (intermodal.state / "runs").exists()


def test_settings_are_bounded_too(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text("[tool.intermodal]\nnetwork = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(BadInput, match=r"pyproject\.toml"):
        load_settings(tmp_path)

"""Python components of every kind in real containers, by the real command; no step has a network."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import __version__ as kfp_version
from kfp import dsl

from intermodal.engine.backend import Packages
from intermodal.engine.requirements import resolve
from intermodal.engine.target import QUERY, Target
from intermodal.spec.python_step import Install
from intermodal.testing.wheels import make_wheel, pack
from tests.backends.docker.support import BASE, in_image
from tests.trust.conftest import Command, Done

pytestmark = pytest.mark.engine

NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "one",
            "metadata": {"tags": ["parameters"]},
            "outputs": [],
            "source": ["text = 'default'"],
        },
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "two",
            "metadata": {},
            "outputs": [],
            "source": ["open('/tmp/said', 'w').write(text.upper())"],
        },
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
def command(tmp_path: Path, python_folder: Path) -> Command:
    state = tmp_path / ".intermodal"
    state.mkdir()
    (state / "python").symlink_to(python_folder)
    return Command(tmp_path)


def forget_image(docker, done: Done) -> int:
    """Remove the images that the run's attempts ran in; return how many there were."""
    images = {json.loads(attempt["launch"])["image"]["id"] for attempt in done.record["attempts"]}
    for image in images:
        docker.backend._client.remove_image(image, force=True)
    return len(images)


def test_packages_are_installed_in_the_image_once(command: Command, tmp_path: Path, monkeypatch, docker):
    code = "import sys\ndef hello(): print('hello', *sys.argv[1:])\n"
    make_wheel(
        tmp_path / "index",
        "intermodal-in-image",
        "1.0",
        {"in_image.py": code, "typing.py": "raise ImportError('the standard library comes first')"},
        scripts={"in-image": "in_image:hello"},
    )
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))

    @dsl.component(base_image=BASE, packages_to_install=["intermodal-in-image"])
    def use(item: str) -> str:
        import subprocess
        import typing
        from importlib.metadata import version

        said = subprocess.run(["in-image", item], capture_output=True, text=True, check=True).stdout.strip()
        return f"{version('intermodal-in-image')} {said} {typing.__name__}"

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        use(item="other")
        return use(item="me").output

    done = command.run(pipeline)
    assert done.code == 0, done.err
    assert done.task("use-2")["outputs"]["parameters"] == {"Output": "1.0 hello me typing"}
    assert forget_image(docker, done) == 1
    # The layer is gone, and no index is there any more: what was resolved and downloaded is enough.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert "CACHED" in command.run(pipeline).err
    again = command.run(pipeline, "--no-cache")
    assert again.code == 0, again.err
    assert forget_image(docker, again) == 1


def test_a_notebook(command: Command, tmp_path: Path, docker):
    (tmp_path / "book.ipynb").write_text(json.dumps(NOTEBOOK))

    @dsl.notebook_component(base_image=BASE, notebook_path=str(tmp_path / "book.ipynb"))
    def book(text: str) -> str:
        dsl.run_notebook(text=text)
        with open("/tmp/said") as stream:  # noqa: PTH123
            return stream.read()

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        return book(text="hello").output

    done = command.run(pipeline)
    forget_image(docker, done)
    assert done.code == 0, done.err
    assert done.task("book")["outputs"]["parameters"] == {"Output": "HELLO"}


def test_embedded_files(command: Command, tmp_path: Path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "beside_it.py").write_text("VALUE = 'imported'")
    (tmp_path / "files" / "data.txt").write_text("read")

    @dsl.component(base_image=BASE, embedded_artifact_path=str(tmp_path / "files"))
    def embedded(folder: dsl.EmbeddedInput[dsl.Dataset]) -> str:
        import beside_it

        with open(f"{folder.path}/data.txt") as stream:  # noqa: PTH123
            return f"{beside_it.VALUE} {stream.read()}"

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        return embedded().output

    done = command.run(pipeline)
    assert done.code == 0, done.err
    assert done.task("embedded")["outputs"]["parameters"] == {"Output": "imported read"}


COMPONENT = """
from kfp import dsl
from beside import greeting

@dsl.component(base_image="intermodal/base:dev", target_image="intermodal-test-containerized:1")
def greet(name: str, page: dsl.Output[dsl.Markdown]) -> str:
    with open(page.path, "w") as stream:
        stream.write(greeting(name))
    return greeting(name)
"""


@pytest.fixture
def containerized(docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What `kfp component build` makes of a folder of code, as an image; without its Dockerfile, whose pip needs a network."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "beside.py").write_text("def greeting(name): return f'hello {name}'")
    (source / "component.py").write_text(COMPONENT)
    build = [str(Path(sys.executable).with_name("kfp")), "component", "build", str(source)]
    build += ["--component-filepattern", "component.py", "--no-build-image"]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (source / "kfp_config.ini").is_file()
    pack(tmp_path, "kfp-server-api")  # which PyPI has only as a source distribution
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    target = Target.of(json.loads(docker.backend.query(docker.image, ["python3", "-c", QUERY])))
    kfp = resolve([Install((f"kfp=={kfp_version}",))], target, tmp_path / "wheels")
    parent = docker.backend.install(docker.image, Packages(tuple(kfp), pack(tmp_path, "pip")))
    client = docker.backend._client
    place = "/usr/local/src/kfp/components"
    image = in_image(client, parent.id, source, place, f"WORKDIR {place}")
    client.tag(image, "intermodal-test-containerized", "1")
    yield source
    client.remove_image("intermodal-test-containerized:1", force=True)
    client.remove_image(parent.id, force=True)


def test_a_containerized_component_is_run_as_it_was_built(command: Command, containerized: Path):
    [metadata] = (containerized / "component_metadata").glob("*.yaml")
    done = command.run(metadata, "--arg", "name=you")
    assert done.code == 0, done.err
    [task] = [task for task in done.record["tasks"] if task["outputs"]["parameters"]]
    assert task["outputs"]["parameters"] == {"Output": "hello you"}
    launch = json.loads(done.record["attempts"][0]["launch"])
    assert launch["command"] == ["python3", "-m", "kfp.dsl.executor_main"]


# Images that only the run tells


@dsl.container_component
def name_image(name: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[name, out])


@dsl.component(base_image="never/used:1")
def say(text: str) -> str:
    return text


@dsl.pipeline(name="p")
def chosen(given: str, made: str) -> str:
    say(text="argument").set_container_image(given)
    image = name_image(name=made)
    return say(text="output").set_container_image(image.output).output


def test_an_image_is_named_by_an_argument_or_by_a_step(command: Command):
    done = command.run(chosen, "--arg", f"given={BASE}", "--arg", f"made={BASE}")
    assert done.code == 0, done.err
    assert {task["path"]: task["state"] for task in done.record["tasks"]}["say-2"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("intermodal-no-such-image:1", "image intermodal-no-such-image:1 is not here and cannot be pulled"),
        ("intermodal/none:dev", "image intermodal/none:dev is not built"),
        ("Not An Image", "image 'Not An Image'"),
        (" ", "came out empty"),
    ],
)
def test_an_image_that_cannot_be_had_fails_its_task_with_its_name(command: Command, made: str, words: str):
    done = command.run(chosen, "--arg", f"given={BASE}", "--arg", f"made={made}")
    assert done.code == 1, done.err
    [(path, (kind, message))] = done.failures.items()
    assert (path, kind) == ("say-2", "image")
    assert words in message
    assert "\n" not in message
    assert {task["path"]: task["state"] for task in done.record["tasks"]}["say"] == "SUCCEEDED"


def test_an_image_that_the_pipeline_names_is_missed_before_anything_runs(command: Command):
    @dsl.pipeline(name="p")
    def pipeline():
        name_image(name="x")
        say(text="y").set_container_image("intermodal-no-such-image:1")

    done = command.run(pipeline)
    assert done.code == 3
    assert "image intermodal-no-such-image:1 is not here" in done.err
    assert done.record == {}

"""The images on a real engine: what is in them, that they run under the container contract, that nothing is built twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest

from intermodal.backends.docker.client import connect
from intermodal.backends.docker.images import content_digest
from intermodal.build.context import recipes
from intermodal.build.images import INPUTS, build_images, reference
from intermodal.errors import BadInput, EnvironmentProblem

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).parents[2]
STEPS = sorted(recipe.name for recipe in recipes(PROJECT) if recipe.name != "torch")
MEGABYTE = 1_000_000
NOT_AT_RUN_TIME = """
import json, pathlib, shutil
tools = [name for name in ("pip", "pip3", "gcc", "cc", "g++", "ld", "make", "uv") if shutil.which(name)]
paths = [path for root in ("/opt", "/app") for path in pathlib.Path(root).rglob("*")]
names = ("tests", "wheels", "pip", "component.py")
files = [str(path) for path in paths if path.name in names or path.suffix == ".a" or str(path).endswith("/torch/test")]
print(json.dumps([tools, files, pathlib.Path("/build").exists()]))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def _run(engine: docker.DockerClient, image: str, code: str, **options: Any) -> str:
    settings = {
        "read_only": True,
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "tmpfs": {"/tmp": "rw,mode=1777"},
        "remove": True,
        "environment": {"HOME": "/tmp"},
    }
    output: bytes = engine.containers.run(image, ["python3", "-c", code], **(settings | options))
    return output.decode()


def test_the_base_is_small_and_has_the_python_of_the_locks(engine: docker.DockerClient) -> None:
    image = engine.images.get(reference("base"))
    assert image.attrs["Size"] <= 150 * MEGABYTE
    code = "import sys, ssl, sqlite3, venv; print(*sys.version_info[:2])"
    assert _run(engine, reference("base"), code).split() == ["3", "11"]


def test_the_benchmarker_is_small_and_knows_no_framework(engine: docker.DockerClient) -> None:
    assert engine.images.get(reference("benchmarker")).attrs["Size"] <= 350 * MEGABYTE
    code = (
        "import importlib.util as u; print([m for m in ('torch', 'transformers', 'mlflow', 'kfp') if u.find_spec(m)])"
    )
    assert _run(engine, reference("benchmarker"), code).strip() == "[]"
    assert _run(engine, reference("benchmarker"), "import onnxruntime, tokenizers; print('ok')").strip() == "ok"


def test_torch_is_the_cpu_build(engine: docker.DockerClient) -> None:
    code = "import torch, transformers; print(torch.__version__, torch.version.cuda)"
    assert _run(engine, reference("torch"), code).split() == ["2.13.0+cpu", "None"]


@pytest.mark.parametrize("step", STEPS)
def test_an_image_says_where_its_code_and_lock_are(engine: docker.DockerClient, step: str) -> None:
    config = engine.images.get(reference(step)).attrs["Config"]
    assert config["Labels"]["io.intermodal.component"] == f"components/{step}"
    assert (PROJECT / config["Labels"]["io.intermodal.component"]).is_dir()
    assert all((PROJECT / lock).is_file() for lock in config["Labels"]["io.intermodal.lock"].split())
    assert config["User"] == "10001:10001"


@pytest.mark.parametrize("step", [*STEPS, "torch"])
def test_an_image_holds_nothing_that_only_builds_or_tests(engine: docker.DockerClient, step: str) -> None:
    tools, files, build = json.loads(_run(engine, reference(step), NOT_AT_RUN_TIME, user="0:0"))
    assert (tools, files, build) == ([], [], False)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_starts_under_any_uid_on_a_read_only_root(engine: docker.DockerClient, step: str) -> None:
    code = f"import runpy, sys; sys.argv = ['x', '--help']; runpy.run_module('components.{step}', run_name='__main__')"
    for user in ("10001:10001", "54321:54321"):
        assert "usage" in _run(engine, reference(step), code, user=user).lower()


@pytest.mark.parametrize("step", STEPS)
def test_byte_code_of_a_step_is_there(engine: docker.DockerClient, step: str) -> None:
    code = (
        "import pathlib; made = [p for p in pathlib.Path('/app').rglob('*.py')"
        " if not list((p.parent / '__pycache__').glob(p.stem + '.*.pyc'))]; print(made)"
    )
    assert _run(engine, reference(step), code).strip() == "[]"


# Builds of a project of their own, in a few seconds.


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A project with one image `tiny-build-test` that installs nothing."""
    project = tmp_path / "project"
    name = "tiny-build-test"
    for folder in (f"images/{name}", f"components/{name}", "requirements"):
        (project / folder).mkdir(parents=True)
    (project / f"images/{name}/Dockerfile").write_text(
        "ARG BASE_IMAGE=intermodal/base:dev\nFROM ${BASE_IMAGE}\n"
        f"COPY components/{name} /app/components/{name}\nRUN python3 -m compileall -q /app\n"
    )
    shutil.copy(PROJECT / "images/install", project / "images/install")
    shutil.copytree(PROJECT / "images/base", project / "images/base")
    (project / f"components/{name}/__main__.py").write_text("print('hello')\n")
    (project / f"components/{name}/requirements.txt").write_text("")
    (project / "requirements/build.txt").write_text("")
    yield project
    with closing(docker.from_env()) as client:
        for image in client.images.list(reference(name)):
            client.images.remove(image.id, force=True)


def _build(project: Path, state: Path) -> Any:
    client = connect()
    try:
        return build_images(project, state, ["tiny-build-test"], client, lambda _: None)[0]
    finally:
        client.close()


def test_equal_inputs_build_once_and_a_change_builds_again(tiny: Path, tmp_path: Path) -> None:
    first = _build(tiny, tmp_path / "state")
    second = _build(tiny, tmp_path / "other-state")
    assert first.seconds > 0
    assert (second.seconds, second.id) == (0, first.id)
    (tiny / "components/tiny-build-test/__main__.py").write_text("print('changed')\n")
    third = _build(tiny, tmp_path / "state")
    assert third.seconds > 0
    assert third.id != first.id
    recorded = json.loads((tmp_path / "state/build/images.json").read_text())
    assert recorded["tiny-build-test"]["id"] == third.id
    with closing(docker.from_env()) as client:
        assert len(client.images.get(third.id).labels[INPUTS]) == 64


@pytest.fixture
def packed(tiny: Path) -> Path:
    """The same with a real step's Dockerfile and packages."""
    name = "tiny-build-test"
    text = (PROJECT / "images/selector/Dockerfile").read_text()
    (tiny / f"images/{name}/Dockerfile").write_text(text.replace("selector", name))
    shutil.copytree(
        PROJECT / "components", tiny / "components", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(PROJECT / "requirements", tiny / "requirements", dirs_exist_ok=True)
    shutil.copytree(PROJECT / "components/selector", tiny / f"components/{name}", dirs_exist_ok=True)
    return tiny


@pytest.mark.parametrize("project", ["tiny", "packed"])
def test_two_builds_of_one_commit_are_the_same_files(
    project: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tiny = request.getfixturevalue(project)
    with closing(connect()) as client:
        made = []
        for name in ("one", "other"):
            built = _build(tiny, tmp_path / name)
            made.append((built.id, content_digest(client, client.inspect_image(built.id), None)))
            client.remove_image(built.id, force=True)  # and with it what the builder would take again
    (one, one_content), (other, other_content) = made
    assert one != other
    assert one_content == other_content


def test_a_failed_build_names_the_image_the_instruction_and_the_last_words(tiny: Path, tmp_path: Path) -> None:
    with (tiny / "images/tiny-build-test/Dockerfile").open("a") as stream:
        stream.write("RUN echo the disk of this step is square && exit 7\n")
    with pytest.raises(EnvironmentProblem) as caught:
        _build(tiny, tmp_path / "state")
    assert "intermodal/tiny-build-test:dev" in caught.value.message
    assert "RUN echo the disk" in caught.value.message
    assert "\n" not in caught.value.message
    log = tmp_path / "state/build/tiny-build-test.log"
    assert str(log) in str(caught.value.hint)
    assert "the disk of this step is square" in log.read_text()


def test_a_build_has_no_network(tiny: Path, tmp_path: Path) -> None:
    with (tiny / "images/tiny-build-test/Dockerfile").open("a") as stream:
        stream.write('RUN test "$(ls /sys/class/net)" = lo\n')
    assert _build(tiny, tmp_path / "state").seconds > 0


def test_code_that_does_not_compile_fails_the_build(tiny: Path, tmp_path: Path) -> None:
    (tiny / "components/tiny-build-test/__main__.py").write_text("def\n")
    with pytest.raises(EnvironmentProblem, match="compileall"):
        _build(tiny, tmp_path / "state")


def test_an_unknown_image_is_named_with_those_that_exist(tmp_path: Path) -> None:
    client = connect()
    try:
        with pytest.raises(BadInput, match="'trianer'") as caught:
            build_images(PROJECT, tmp_path / "state", ["trianer"], client, lambda _: None)
    finally:
        client.close()
    assert "trainer" in str(caught.value.hint)


def test_the_base_can_be_made_alone(tmp_path: Path) -> None:
    client = connect()
    try:
        assert build_images(PROJECT, tmp_path / "state", ["base"], client, lambda _: None) == []
    finally:
        client.close()
    assert list(json.loads((tmp_path / "state/build/images.json").read_text())) == ["base"]

"""Every way in which a step can fail to be green, through the real command: exit code, class and message as `show` says them."""

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest
from kfp import dsl

from tests.trust.conftest import Command, Done

pytestmark = pytest.mark.engine
BASE = "intermodal/base:dev"
HOG = "bytearray(400 * 2**20)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{HOG}']); "


@dsl.container_component
def python(source: str):
    return dsl.ContainerSpec(image=BASE, command=["python3", "-c", source])


@dsl.container_component
def shell(script: str):
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", script])


@dsl.container_component
def program(path: str):
    return dsl.ContainerSpec(image=BASE, command=[path])


@dsl.container_component
def number(script: str, value: dsl.OutputPath(int), data: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", script, "sh"], args=[value, data.path])


@dsl.container_component
def values(script: str, value: dsl.OutputPath(list)):
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", script, "sh"], args=[value])


@dsl.container_component
def name(image: str, value: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[image, value])


@dsl.container_component
def after(value: int):
    return dsl.ContainerSpec(image=BASE, command=["true"], args=[value])


def load(client: docker_py.APIClient, architecture: str) -> str:
    """Load an image of one empty layer for a processor."""
    layer = io.BytesIO()
    tarfile.open(fileobj=layer, mode="w").close()
    import hashlib

    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    tag = f"intermodal-test-{architecture}-{time.monotonic_ns()}:t"
    rootfs = {"type": "layers", "diff_ids": [digest]}
    config = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["/x"]}, "rootfs": rootfs}
    files = {
        "config.json": json.dumps(config).encode(), "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode(),
    }  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    list(client.load_image(buffer.getvalue()))
    return tag


@pytest.fixture(scope="module")
def client() -> Iterator[docker_py.APIClient]:
    client = docker_py.from_env().api
    yield client
    client.close()


@pytest.fixture(scope="module")
def strange(client: docker_py.APIClient) -> Iterator[dict[str, str]]:
    """Images that cannot run here: for another processor, without a file at its entry point."""
    buffer = io.BytesIO()
    tarfile.open(fileobj=buffer, mode="w").close()
    entry = f"intermodal-test-entry-{time.monotonic_ns()}"
    client.import_image_from_data(buffer.getvalue(), repository=entry, tag="t", changes=['ENTRYPOINT ["/no/entry"]'])
    images = {"z80": load(client, "z80"), "entry": f"{entry}:t"}
    yield images
    for image in images.values():
        client.remove_image(image, force=True)


EXPECTED = {
    "oom-main": ("oom", "the step was killed; the limit is 64 MiB"),
    "oom-child-1": ("oom", "a child process was killed, though the step itself exited 1; the limit is 64 MiB"),
    "oom-child-0": ("oom", "a child process was killed, though the step itself exited 0; the limit is 64 MiB"),
    "segfault": ("user_code", "crashed with SIGSEGV (exit code 139)"),
    "seven": ("user_code", "exit code 7"),
    "absent": ("image", "exit code 127: '/no/such/program' was not found in the image"),
    "not-a-program": ("image", "exit code 126: '/etc/passwd' cannot be executed in the image"),
    "killed": ("killed", "ended from outside by SIGKILL (exit code 137)"),
    "no-parameter": ("output_missing", "output 'value' was not written"),
    "no-artifact": ("output_missing", "output artifact 'data' was not written"),
    "wrong-type": ("output_invalid", "output 'value': 'many\\n' is not a NUMBER_INTEGER"),
    "cut-off": ("output_invalid", "output 'value': '[1, 2' is not a LIST"),
    "too-long": ("output_invalid", "bytes are too many for a parameter"),
    "gone": ("image", "intermodal/gone:dev is not built"),
    "other-processor": ("image", "is for z80, and this engine runs"),
    "no-entry": ("image", "entry point of intermodal-test-entry"),
}


@pytest.fixture(scope="module")
def done(
    strange: dict[str, str], client: docker_py.APIClient, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Done, Command]:
    """All of them in one run, each independent of the others."""

    @dsl.container_component
    def entry():
        return dsl.ContainerSpec(image=strange["entry"])

    @dsl.pipeline(name="failures")
    def failures():
        def small(task: dsl.PipelineTask, name: str) -> None:
            task.set_memory_limit("64Mi").set_display_name(name)

        small(python(source=HOG), "oom-main")
        small(python(source=CHILD + "sys.exit(1)"), "oom-child-1")
        small(python(source=CHILD), "oom-child-0")
        shell(script="kill -SEGV $$").set_display_name("segfault")
        shell(script="exit 7").set_display_name("seven")
        program(path="/no/such/program").set_display_name("absent")
        program(path="/etc/passwd").set_display_name("not-a-program")
        shell(script="sleep 300").set_display_name("killed")
        number(script='echo x > "$2"').set_display_name("no-parameter")
        number(script='echo 1 > "$1"').set_display_name("no-artifact")
        wrong = number(script='echo many > "$1"; echo x > "$2"').set_display_name("wrong-type")
        after(value=wrong.outputs["value"]).set_display_name("after")
        values(script='printf "[1, 2" > "$1"').set_display_name("cut-off")
        values(script='head -c 2000000 /dev/zero | tr "\\\\0" 1 > "$1"').set_display_name("too-long")
        entry().set_display_name("no-entry")
        for label, image in (("gone", "intermodal/gone:dev"), ("other-processor", strange["z80"])):
            task = program(path="/x").set_display_name(label)
            task.set_container_image(name(image=image).outputs["value"])

    command = Command(tmp_path_factory.mktemp("failures"))
    killer = threading.Thread(target=kill_sleeper, args=(client, command), daemon=True)
    killer.start()
    ran = command.run(failures)
    killer.join(1)
    return ran, command


def kill_sleeper(client: docker_py.APIClient, command: Command) -> None:
    """Do `docker kill` to the step that sleeps, as soon as it runs."""
    label = f"io.intermodal.state={command.state.resolve()}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for container in client.containers(filters={"label": label}):
            if "sleep 300" in container["Command"]:
                client.kill(container["Id"])
                return
        time.sleep(0.2)


def by_display_name(ran: Done) -> dict[str, str]:
    """Display name -> path, from the compiled pipeline (the SDK numbers equal components)."""
    import yaml

    pipeline = yaml.safe_load(next(iter(ran.folder.glob("*.yaml"))).read_text())
    return {task["taskInfo"]["name"]: path for path, task in pipeline["root"]["dag"]["tasks"].items()}


def test_the_run_is_not_green(done: tuple[Done, Command]):
    ran, _ = done
    assert ran.code == 1 and ran.record["state"] == "FAILED"
    paths = by_display_name(ran)
    assert ran.task(paths["after"])["state"] == "SKIPPED"
    assert len(ran.failures) == len(EXPECTED)
    client = docker_py.from_env()
    assert (
        client.containers.list(
            all=True, filters={"label": f"io.intermodal.run={ran.record['id']}"}, ignore_removed=True
        )
        == []
    )
    client.close()


@pytest.mark.parametrize("case", EXPECTED)
def test_each_failure_has_its_class_and_message(done: tuple[Done, Command], case: str):
    ran, command = done
    path = by_display_name(ran)[case]
    kind, message = ran.failures[path]
    assert (kind, EXPECTED[case][1] in message) == (EXPECTED[case][0], True), message
    shown = command.text("show").splitlines()
    assert any(line.strip() == f"{kind}: {message}" for line in shown)
    assert f"{kind}: {message}" in ran.err


def test_what_is_known_before_is_refused_before(intermodal: Command, strange: dict[str, str]):
    for image, word in (
        ("intermodal/gone:dev", "is not built"),
        (strange["z80"], "is for z80"),
        ("localhost:1/no/such", "cannot be pulled"),
    ):

        @dsl.container_component
        def step():
            return dsl.ContainerSpec(image=image, command=["true"])  # noqa: B023 - called before the next turn

        @dsl.pipeline(name="early")
        def early():
            shell(script="touch /tmp/x")
            step()

        done = intermodal.run(early)
        assert done.code == 3 and word in done.err and not done.record, done.err


def test_many_fast_failures_are_all_seen_with_their_whole_logs(intermodal: Command):
    """The engine's own peers lose some: the end of a container that fails at once races with its log."""
    sizes = [0] * 40 + [2**20] * 15 + [10 * 2**20] * 5

    @dsl.container_component
    def fail(size: int):
        return dsl.ContainerSpec(
            image=BASE, command=["sh", "-c", 'head -c "$0" /dev/zero | tr "\\0" x; exit 7'], args=[size]
        )

    @dsl.pipeline(name="fast")
    def fast():
        with dsl.ParallelFor(sizes) as size:
            fail(size=size)

    done = intermodal.run(fast, "--max-parallel", "8")
    assert done.code == 1
    failures = [message for path, message in done.failures.items() if path.endswith("/fail")]
    assert failures == [("user_code", "exit code 7")] * len(sizes)
    logs = {int(item["path"].split("/")[1]): Path(item["log"]).stat().st_size for item in done.record["attempts"]}
    assert [logs[number] for number in range(len(sizes))] == sizes

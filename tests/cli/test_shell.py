"""`intermodal shell` and `replay` on a real engine: an attempt as it was, looked at and done again."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from kfp import compiler, dsl, kubernetes

from intermodal.backends.docker.shell import LABEL_SHELL
from intermodal.backends.shells import command_line
from tests.support.command import Command
from tests.support.terminal import Terminal

pytestmark = pytest.mark.engine

BASE = "intermodal/base:dev"
SECRET = "tops3cret"
TEXT = "it's a 'test' of\n$HOME \\ \t\"é\""
ARGUMENTS = ("--secrets", "secrets", "--arg", f"text={TEXT}")
SCRIPT = """echo half > "$2"
mkfifo "$(dirname "$2")/fifo"
cat "$3/file"
echo "$1|$GREETING"
test -n "$PASSWORD"
exit 7
"""


@dsl.container_component
def make(data: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(
        image=BASE, command=["sh", "-c", 'mkdir "$1" && echo content > "$1/file"', "sh"], args=[data.path]
    )


@dsl.container_component
def bad(text: str, data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", SCRIPT, "sh"], args=[text, out, data.path])


@dsl.pipeline(name="fails")
def fails(text: str):
    task = bad(text=text, data=make().outputs["data"])
    task.set_env_variable("GREETING", "hello")
    task.set_env_variable("ADDRESS", "http://$(PASSWORD)@host")
    task.set_memory_limit("64Mi")
    kubernetes.use_secret_as_env(task, "db", {"password": "PASSWORD"})
    kubernetes.use_secret_as_volume(task, "db", "/secrets/db")


def compiled(pipeline: object, folder: Path) -> str:
    path = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return str(path)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A state folder with a run whose task `bad` failed; its container is gone."""
    folder = tmp_path_factory.mktemp("shell")
    command = Command(folder, folder / "state")
    (folder / "secrets" / "db").mkdir(parents=True)
    (folder / "secrets" / "db" / "password").write_text(SECRET)
    done = command("run", compiled(fails, folder), *ARGUMENTS)
    assert done.returncode == 1 and b"bad FAILED" in done.stderr, done
    return command


@pytest.fixture
def bad_task(failed: Command) -> str:
    """The failed task of the first run, as RUN/TASK."""
    oldest = failed.text("runs", "--json").splitlines()[-1]
    return json.loads(oldest)["id"] + "/bad"


def record(command: Command, run: str) -> dict:
    return json.loads(command.text("show", "--json", run))


def containers(**filters: str | list[str]) -> list:
    client = docker.from_env()
    try:
        return client.containers.list(all=True, filters=filters, ignore_removed=True)
    finally:
        client.close()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came to pass"
        time.sleep(0.1)


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


LOOK = """
cat /kfp/inputs/data/file /kfp/outputs/parameters/out
touch /kfp/inputs/data/new 2>/dev/null || echo read-only
echo mine > /kfp/outputs/parameters/out && ls /kfp/outputs/parameters
echo "$ADDRESS $GREETING $(cat /secrets/db/password)"
cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes
ls /sys/class/net; id -u; echo problem >&2; exit 3
"""


def test_a_command_sees_what_the_step_saw(failed: Command, bad_task: str):
    done = failed("shell", bad_task, "-c", LOOK)
    assert (done.returncode, done.stderr) == (3, b"problem\n")
    assert done.stdout.decode().splitlines() == [
        "content",
        "half",
        "read-only",
        "out",  # the FIFO that the step left beside it is not copied
        f"http://{SECRET}@host hello {SECRET}",
        str(64 * 2**20),
        "lo",
        str(os.getuid() or 10001),
    ]


def test_nothing_of_a_shell_is_left_and_nothing_on_record_changed(failed: Command, bad_task: str):
    before = record(failed, bad_task.partition("/")[0])
    assert failed("shell", bad_task, "-c", "echo changed > /kfp/outputs/parameters/out").returncode == 0
    assert failed("shell", bad_task, "-c", "cat /kfp/outputs/parameters/out").stdout == b"half\n"
    assert record(failed, bad_task.partition("/")[0]) == before
    assert files_with(SECRET, failed.state) == []
    assert list(failed.state.glob("runs/*/shells")) == []
    assert containers(label=f"io.intermodal.state={failed.state}") == []


def terminal(command: Command, *words: str, path: str = os.environ["PATH"]) -> Terminal:
    arguments = [sys.executable, "-m", "intermodal", "shell", "--state", str(command.state), *words]
    return Terminal(arguments, cwd=command.folder, env={"PATH": path}, columns=200)


def test_on_a_terminal_the_arrow_key_brings_the_steps_command(failed: Command, bad_task: str):
    no_docker_command = str(Path(sys.executable).parent)
    with terminal(failed, bad_task, path=no_docker_command) as shown:
        shown.wait_for("step:")
        assert "user_code: exit code 7" in shown.text
        shown.send("\x1b[A\r")
        shown.wait_for("|hello")
        shown.send("echo code=$? >&2\r")
        shown.wait_for("code=7")
        shown.send("stty size\r")
        shown.wait_for("30 200")
        shown.resize(90, 25)
        shown.send("clear; sleep 0.2; stty size\r")
        shown.wait_for("25 90")
        shown.send("sleep 100\r")
        time.sleep(0.5)
        shown.interrupt()  # Ctrl-C is the shell's, it ends nothing else
        shown.send("echo st''ill\r")
        shown.wait_for("still")
        shown.send("exit 5\r")
        assert shown.wait() == 5
        assert shown.modes_restored
    assert containers(label=f"io.intermodal.state={failed.state}") == []


def test_a_shell_that_is_stopped_tidies_up(failed: Command, bad_task: str):
    with terminal(failed, bad_task) as shown:
        shown.wait_for("step:")
        assert len(containers(label=[LABEL_SHELL, f"io.intermodal.state={failed.state}"])) == 1
        shown.kill(signal.SIGTERM)
        assert shown.wait() == 128 + signal.SIGTERM
        assert shown.modes_restored
    assert files_with(SECRET, failed.state) == []
    wait_until(lambda: containers(label=f"io.intermodal.state={failed.state}") == [])


def test_what_a_killed_shell_leaves_goes_with_the_next_one(failed: Command, bad_task: str):
    with terminal(failed, bad_task) as shown, terminal(failed, bad_task) as other:
        shown.wait_for("step:")
        other.wait_for("step:")
        shown.kill(signal.SIGKILL)
        shown.wait()
        assert failed("shell", bad_task, "-c", "true").returncode == 0
        wait_until(lambda: len(containers(label=f"io.intermodal.state={failed.state}")) == 1)
        assert len(list(failed.state.glob("runs/*/shells/*"))) == 1
        other.send("echo al''ive; exit\r")  # a shell that lives is left alone
        other.wait_for("alive")
        assert other.wait() == 0
    assert files_with(SECRET, failed.state) == []


def test_what_cannot_be_opened_is_said(failed: Command, bad_task: str):
    for words, text in (
        ((bad_task,), "a shell needs a terminal"),
        ((bad_task, "-c", "true", "--attempt", "9"), "no attempt 9"),
        ((f"{bad_task[:-1]}t", "-c", "true"), "did you mean 'bad'?"),
        (("nothing", "-c", "true"), "'nothing'"),
    ):
        done = failed("shell", *words)
        assert done.returncode == 2 and text in done.stderr.decode(), done
    (failed.folder / "secrets" / "db" / "password").rename(failed.folder / "moved")
    try:
        done = failed("shell", bad_task, "-c", "true")
        assert done.returncode == 3 and b"password, which gave PASSWORD, is gone" in done.stderr
    finally:
        (failed.folder / "moved").rename(failed.folder / "secrets" / "db" / "password")


def test_a_task_that_came_from_the_cache_opens_where_it_ran(failed: Command):
    done = failed("run", compiled(fails, failed.folder), *ARGUMENTS)
    assert b"make CACHED" in done.stderr
    newest = json.loads(failed.text("show", "--json"))["id"]
    assert failed("shell", newest, "make", "-c", "ls -A /kfp/outputs/artifacts").stdout == b""
    assert failed("shell", newest, "-c", "cat /kfp/outputs/parameters/out").stdout == b"half\n"  # the only failed one


@pytest.fixture
def bare_image() -> Iterator[str]:
    """An image that holds one file, and no program at all."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    client = docker.from_env()
    name = f"intermodal-test/bare-{os.getpid()}"
    client.api.import_image_from_data(archive.getvalue(), repository=name, tag="v1")
    yield f"{name}:v1"
    for image in client.images.list(name):
        client.images.remove(image.id, force=True)
    client.close()


def test_an_image_without_a_shell_and_one_that_is_gone(tmp_path: Path, bare_image: str):
    @dsl.container_component
    def bare():
        return dsl.ContainerSpec(image=bare_image, command=["/nothing"])

    @dsl.pipeline(name="bare")
    def pipeline():
        bare()

    command = Command(tmp_path, tmp_path / "state")
    assert command("run", compiled(pipeline, tmp_path)).returncode == 1
    done = command("shell", "bare/bare", "-c", "true")
    assert done.returncode == 3 and f"image {bare_image} has no sh" in done.stderr.decode(), done
    client = docker.from_env()
    client.images.remove(bare_image, force=True)
    for verb in (("shell", "bare", "-c", "true"), ("replay", "bare")):
        done = command(*verb)
        assert done.returncode == 3 and f"image {bare_image} (sha256:" in done.stderr.decode(), done
        assert "is gone" in done.stderr.decode() and "Traceback" not in done.stderr.decode()
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("other"))
    name, _, tag = bare_image.partition(":")
    client.api.import_image_from_data(other.getvalue(), repository=name, tag=tag)
    client.close()
    assert b"is another image now" in command("shell", "bare", "-c", "true").stderr
    assert containers(label=f"io.intermodal.state={command.state}") == []


def test_without_containers_it_has_the_steps_variables_and_folder(tmp_path: Path):
    project = tmp_path / "project"
    for name, content in {
        "pyproject.toml": "",
        "images/echo/Dockerfile": 'FROM scratch\nLABEL io.intermodal.component="components/echo" \\\n'
        '      io.intermodal.lock="components/echo/requirements.txt"\n',
        "components/__init__.py": "",
        "components/echo/__init__.py": "",
        "components/echo/__main__.py": "import sys\nopen(sys.argv[1], 'w').write('half')\nsys.exit(4)\n",
        "components/echo/requirements.txt": "",
    }.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    @dsl.container_component
    def echo(out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="intermodal/echo:dev", command=["python", "-m", "components.echo"], args=[out])

    @dsl.pipeline(name="bare")
    def pipeline():
        echo().set_env_variable("GREETING", "hello")

    command = Command(project, project / "state")
    assert command("run", compiled(pipeline, project), "--backend", "process").returncode == 1
    words = [sys.executable, "-m", "intermodal", "shell", "--state", str(command.state), "echo"]
    look = 'pwd; echo $GREETING; which python; ls "$(dirname "$HOME")"'
    done = subprocess.run([*words, "-c", look + "; exit 3"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 3, done
    folder, greeting, python, _ = done.stdout.split("\n", 3)
    assert (folder, greeting) == (str(project), "hello") and python.startswith(f"{command.state}/envs/")
    with Terminal(words, cwd=project, columns=200) as shown:
        shown.wait_for("step:")
        assert "without containers a step reaches the network" in shown.text
        shown.send("\x1b[A\r")
        shown.send("echo code=$? >&2; cat $(dirname $HOME)/../outputs/parameters/out\r")
        shown.wait_for("code=4")
        shown.wait_for("half")
        shown.send("exit\r")
        assert shown.wait() == 0
    assert list(command.state.glob("runs/*/shells")) == []
    done = command("replay", "echo")
    assert done.returncode == 1 and b"failed, as on record" in done.stdout, done
    (project / "components/echo/__main__.py").write_text("changed = True\n")
    assert b"its code is not what it was" in command("replay", "bare/echo").stderr


def test_a_history_line_is_read_back_as_the_very_arguments():
    words = ["sh", "-c", "a\nb\tc", "it's", '\\ $x `y` "z"', "", "é\x07\x1b[0m", "plain", "--x={{$.y}}"]
    line = command_line(words)
    assert "\n" not in line
    program = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' {line}"
    assert json.loads(subprocess.run(["bash", "-c", program], capture_output=True, check=True).stdout) == words


# Replay


@dsl.container_component
def steady(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str), model: dsl.Output[dsl.Model]):
    return dsl.ContainerSpec(
        image=BASE,
        command=["sh", "-c", 'cat "$1/file" > "$2"; mkdir "$3"; echo w > "$3/weights"', "sh"],
        args=[data.path, out, model.path],
    )


@dsl.container_component
def unsteady(out: dsl.OutputPath(str), model: dsl.Output[dsl.Model]):
    script = 'cat /proc/sys/kernel/random/uuid > "$1"; mkdir "$2"; cp "$1" "$2/weights"; echo same > "$2/config"'
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", script, "sh"], args=[out, model.path])


def test_a_replay_runs_again_and_compares(tmp_path: Path):
    @dsl.pipeline(name="works")
    def pipeline():
        steady(data=make().outputs["data"])
        unsteady()

    command = Command(tmp_path, tmp_path / "state")
    path = compiled(pipeline, tmp_path)
    assert command("run", path).returncode == 0
    done = command("replay", "works/steady")
    assert done.returncode == 0 and b"succeeded, with the outputs on record" in done.stdout, done
    done = command("replay", "works/unsteady", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and (found["state"], found["same"]) == ("SUCCEEDED", False)
    assert [line.partition(":")[0] for line in found["differences"]] == ["parameter 'out'", "artifact 'model'"]
    assert found["differences"][1] == "artifact 'model': weights (changed)"
    again = json.loads(command.text("show", "--json", found["replay"]))
    assert [task["path"] for task in again["tasks"]] == ["unsteady"] and again["tasks"][0]["state"] == "SUCCEEDED"
    assert found["replay"] in command.text("runs")
    # The cache is as it was: the next run takes the outputs of the first, not those of a replay.
    assert b"all of it cached" in command("run", path).stdout
    origin = json.loads(command.text("show", "--json"))["tasks"]
    assert {task["cached_from"].partition("/")[0] for task in origin} == {found["run"]}
    assert command("replay", found["replay"], "unsteady").returncode == 1  # a replay can be replayed
    assert containers(label=f"io.intermodal.state={command.state}") == []


def test_a_failure_fails_again_and_a_mended_one_succeeds(failed: Command, bad_task: str):
    done = failed("replay", bad_task)
    assert done.returncode == 1 and b"failed, as on record" in done.stdout, done
    run = done.stdout.decode().split()[-1]
    assert f"{TEXT}|hello" in failed.text("logs", run)
    done = failed("resume", run)
    assert done.returncode == 2 and b"is a replay" in done.stderr
    assert failed("shell", run, "bad", "-c", "echo $ADDRESS").stdout.decode() == f"http://{SECRET}@host\n"
    assert files_with(SECRET, failed.state) == []
    (failed.folder / "secrets" / "db" / "password").write_text("")
    try:
        done = failed("replay", bad_task, "--json")
    finally:
        (failed.folder / "secrets" / "db" / "password").write_text(SECRET)
    assert json.loads(done.stdout)["failure"]["exit_code"] == 7 and json.loads(done.stdout)["same"]


def test_ctrl_c_stops_a_replay(tmp_path: Path):
    @dsl.container_component
    def long():
        return dsl.ContainerSpec(image=BASE, command=["sh", "-c", "sleep 600 & trap 'exit 9' TERM; wait"])

    @dsl.pipeline(name="long")
    def pipeline():
        kubernetes.set_timeout(long(), 3)

    command = Command(tmp_path, tmp_path / "state")
    assert command("run", compiled(pipeline, tmp_path)).returncode == 1
    run = json.loads(command.text("show", "--json"))["id"]
    words = [sys.executable, "-m", "intermodal", "replay", "--state", str(command.state), run, "long"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)  # the step's deadline holds
    assert done.returncode == 1 and "failed, as on record" in done.stdout, done
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert any("RUNNING" in line for line in child.stderr)
    wait_until(lambda: len(containers(label=f"io.intermodal.state={command.state}")) == 1)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130 and "cancelled, nothing was compared" in out
    assert containers(label=f"io.intermodal.state={command.state}") == []
    assert json.loads(command.text("show", "--json"))["state"] == "CANCELLED"

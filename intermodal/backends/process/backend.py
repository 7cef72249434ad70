"""The process backend: one attempt is one supervised process on this machine. It isolates nothing, and says so."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.backends.exits import command_text, disk_full, judge, out_of_memory, shell_code
from intermodal.backends.logs import LineSplitter
from intermodal.backends.mounts import show_mounts
from intermodal.backends.process import supervisor
from intermodal.backends.process.components import (
    Component,
    code_digest,
    find_component,
    is_plain_python,
    plain_digest,
)
from intermodal.backends.process.environments import environment_for
from intermodal.backends.shells import start_command, write_files
from intermodal.backends.usage import usage_below
from intermodal.engine.backend import Capabilities, Exit, Image, Launch, Packages, PullPolicy, Usage, extended
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.resources import machine
from intermodal.errors import EnvironmentProblem

_POLL_SECONDS = 0.05
_BIRTH_SECONDS = 3.0
_WORK = "process"
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def project_root(start: Path) -> Path:
    """Return the nearest folder, from `start` upwards, with a pyproject.toml. Raises EnvironmentProblem."""
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise EnvironmentProblem(f"no pyproject.toml in {start} or above it", hint="run this in the project's folder")


class ProcessBackend:
    """Runs attempts as processes of this machine. Implements `intermodal.engine.backend.Backend`.

    A step's code is the component folder that its image's Dockerfile names, its environment the lock that it names.
    """

    name = "process"
    capabilities = Capabilities(
        isolates_filesystem=False,
        isolates_network=False,
        enforces_cpu=False,
        enforces_memory=False,
        gpu=True,
        needs_images=False,
        notes=(
            "without containers a step can read and write whatever you can, inputs included",
            "without containers a step reaches the network, and no limit of CPU or memory holds",
            "without containers a process that the kernel kills for memory counts against every step that runs at that moment",
        ),
    )

    def __init__(self, *, project: Path | None = None, state_dir: Path | None = None) -> None:
        self._project = (project or project_root(Path.cwd())).absolute()
        self._state_dir = (state_dir or self._project / ".intermodal").absolute()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._runs: dict[str, str] = {}
        """Handle -> run, of what this object started."""
        self._lock = threading.Lock()

    def prepare(self, state_dir: Path) -> None:
        """Check that steps can run here: a POSIX system with /proc. Raises EnvironmentProblem."""
        self._state_dir = state_dir.absolute()
        if not Path("/proc/self/stat").exists():
            raise EnvironmentProblem("the process backend needs Linux (/proc)", hint="use --backend docker")
        if machine().gpus:
            self._say("without containers a step that asks for a GPU sees all GPUs that you see")

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        """Find the code behind an image's name, install its environment, hash both. Raises EnvironmentProblem.

        A plain Python image (`python:3.11`) is stood in for by a bare environment, which the backend's notes then say.
        """
        component = self._component(reference)
        environment = self._environment(component, None)
        if component is None:
            self._say(
                f"image {reference}: its steps run in a bare environment of this machine's Python {platform.python_version()}, "
                "with nothing else of the image"
            )
            return Image(reference, environment, plain_digest())
        return Image(reference, environment, code_digest(self._project, component))

    def _component(self, reference: str) -> Component | None:
        """Return the code behind an image's name, None for a plain Python image. Raises EnvironmentProblem, BadInput."""
        return None if is_plain_python(self._project, reference) else find_component(self._project, reference)

    def _environment(self, component: Component | None, packages: Packages | None) -> str:
        locks = component.locks if component else ()
        with self._lock:
            return str(environment_for(locks, self._state_dir / "envs", self._state_dir / "wheels", packages))

    def _say(self, note: str) -> None:
        with self._lock:
            if note not in self.capabilities.notes:
                self.capabilities = replace(self.capabilities, notes=(*self.capabilities.notes, note))

    def install(self, image: Image, packages: Packages) -> Image:
        """Return the image with an environment that holds the packages too. Raises EnvironmentProblem."""
        environment = self._environment(self._component(image.reference), packages)
        return replace(image, id=environment, digest=extended(image, packages))

    def image_here(self, reference: str, memory: Path | None) -> Image | None:
        """Find the code behind an image's name and hash it; the environment is not asked for. Raises EnvironmentProblem."""
        return Image(reference, "", code_digest(self._project, find_component(self._project, reference)))

    def query(self, image: Image, command: Sequence[str]) -> str:
        """Run a short command in the image's environment and return what it printed. Raises EnvironmentProblem."""
        binaries = Path(image.id) / "bin"
        words = [shutil.which(command[0], path=_search_path(binaries)) or command[0], *command[1:]]
        try:
            done = subprocess.run(
                words,
                env={"PATH": _search_path(binaries)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise EnvironmentProblem(f"environment of {image.reference}: {command[0]!r} cannot run: {error}") from error
        return done.stdout

    def export(self, image: Image, path: PurePosixPath, folder: Path) -> Path:
        """There are no files of images here. Raises EnvironmentProblem."""
        raise EnvironmentProblem(f"image {image.reference}: the {self.name} backend has no images to take {path} from")

    def step_root(self, attempt_dir: Path) -> PurePosixPath:
        return PurePosixPath(attempt_dir.absolute())

    def start(self, launch: Launch) -> str:
        """Start the step's supervisor; return `pid:start time`. Raises AttemptFailed."""
        work = launch.attempt_dir.absolute() / _WORK
        try:
            shutil.rmtree(work, ignore_errors=True)
            (work / "tmp").mkdir(parents=True)
            specification = work / "launch.json"
            specification.touch(mode=0o600)  # the environment may hold secrets
            specification.write_text(json.dumps(self._specification(launch, work)), encoding="utf-8")
            child = self._supervise(specification)
        except OSError as error:
            full = disk_full(launch.attempt_dir, None)
            raise AttemptFailed(full or Failure(FailureClass.ENGINE_LOST, f"cannot start: {error}")) from error
        handle = f"{child.pid}:{supervisor.start_time(child.pid) or 0}"
        with self._lock:
            self._children[handle] = child
            self._runs[handle] = launch.run_id
        return handle

    def _supervise(self, specification: Path) -> subprocess.Popen[bytes]:
        package = str(Path(supervisor.__file__).parents[3])
        return subprocess.Popen(
            [sys.executable, "-m", supervisor.__name__, str(specification)],
            cwd=package,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": package},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal reaches the command, which then stops its steps
        )

    def _specification(self, launch: Launch, work: Path) -> dict[str, Any]:
        outside = show_mounts(launch)
        plain = is_plain_python(self._project, launch.image.reference)
        elsewhere = [target for target, source in outside.items() if target != source]
        if elsewhere and plain:
            text = f"{launch.task}: {elsewhere[0]} cannot be mounted without a container"  # and its code knows no other place
            raise AttemptFailed(Failure(FailureClass.IMAGE, text))
        binaries = Path(launch.image.id) / "bin"
        words = [*launch.command, *launch.args]
        if not words:
            raise AttemptFailed(
                Failure(FailureClass.IMAGE, f"{launch.task}: no command, and no container image to give one")
            )
        # A virtual environment has no image's PATH: `python` must be the environment's, whatever the parent's PATH says.
        words[0] = shutil.which(words[0], path=_search_path(binaries)) or words[0]
        return {
            "argv": words,
            "cwd": str(work / "tmp" if plain else self._project),
            "env": {
                **_devices(launch.limits.gpus),
                **_environment(launch.env, binaries, None if plain else self._project, work / "tmp", outside),
            },
            "log": str(launch.log.absolute()),
            "log_cap": launch.log_cap,
        }

    def adopt(self, launch: Launch) -> str | None:
        """Find the supervisor of this attempt by what it wrote when it began; one that comes later finds nothing to run."""
        work = launch.attempt_dir.absolute() / _WORK
        deadline = time.monotonic() + _BIRTH_SECONDS
        while (work / "launch.json").exists() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        # The supervisor runs the step only if it was the one that took the specification away.
        with contextlib.suppress(FileNotFoundError):
            (work / "launch.json").unlink()
            return None
        with contextlib.suppress(FileNotFoundError):
            return (work / "handle").read_text(encoding="ascii")
        return None

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        """Block until the step's supervisor has ended; hand on the log's lines as they come."""
        lines = LineSplitter(on_line or (lambda _line: None))
        position = 0
        while True:
            ended = not self._alive(handle)
            position = _read_on(launch.log, position, lines)
            if ended:
                break
            time.sleep(_POLL_SECONDS)
        lines.close()
        with self._lock:
            child = self._children.get(handle)
        return _read_exit(launch, child.returncode if child else None)

    def _alive(self, handle: str) -> bool:
        with self._lock:
            child = self._children.get(handle)
            if child is not None:
                return child.poll() is None
        pid, _, started = handle.partition(":")
        return supervisor.start_time(int(pid)) == int(started)

    def stop(self, handle: str, grace: float) -> None:
        """SIGTERM to the step's process group, wait `grace` seconds, SIGKILL."""
        self._signal(handle, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self._alive(handle) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self._signal(handle, signal.SIGUSR1)

    def _signal(self, handle: str, number: signal.Signals) -> None:
        if self._alive(handle):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(handle.partition(":")[0]), number)

    def remove(self, handle: str) -> None:
        """Forget the handle. A running step is killed first."""
        self.stop(handle, 0)
        with self._lock:
            child = self._children.pop(handle, None)
            self._runs.pop(handle, None)
        if child is not None:
            child.wait()

    def cleanup(self, run_id: str) -> int:
        """Kill every step of the run that still runs, whoever started it from this state folder; return how many there were."""
        with self._lock:
            handles = {handle for handle, run in self._runs.items() if run == run_id}
        handles |= set(_left_behind(self._state_dir / "runs" / run_id))
        running = [handle for handle in handles if self._alive(handle)]
        for handle in handles:
            self.remove(handle)
        return len(running)

    def usage(self, handle: str) -> Usage | None:
        """Return what the step and all it started use, None if it has ended. Implements `Meter`."""
        return usage_below(int(handle.partition(":")[0]))

    def shell(self, launch: Launch, command: str | None) -> int:
        """Run a shell or a command with the step's variables in its folder; nothing is isolated. Implements `Shells`."""
        work = launch.attempt_dir.absolute() / _WORK
        (work / "tmp").mkdir(parents=True)
        specification = self._specification(launch, work)
        words = ["sh", "-c", command or ""]
        if command is None:
            seen = PurePosixPath(work / "shell")
            write_files(work / "shell", seen, specification["argv"])
            words = start_command(seen)
        with _interrupts_left_to_the_shell():
            done = subprocess.run(words, cwd=specification["cwd"], env=specification["env"], check=False)
        return done.returncode if done.returncode >= 0 else 128 - done.returncode

    def close(self) -> None:
        """Nothing is held: steps outlive this object, as containers do."""


@contextlib.contextmanager
def _interrupts_left_to_the_shell() -> Iterator[None]:
    """Ctrl-C in a shell is for what runs in it; the terminal sends it to this process too."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _left_behind(folder: Path) -> Iterator[str]:
    """Yield the handle of every living supervisor that works below a run's folder."""
    for path in folder.glob(f"tasks/**/{_WORK}/handle"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            handle = path.read_text(encoding="ascii")
            words = Path(f"/proc/{handle.partition(':')[0]}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(path.with_name("launch.json")) in words:  # else the number is another process's by now
                yield handle


def _search_path(binaries: Path) -> str:
    return f"{binaries}:/usr/local/bin:/usr/bin:/bin"


def _devices(gpus: int) -> dict[str, str]:
    """Return the variables by which a step finds GPUs and their driver; one that asks for none finds none, as in a container."""
    if not gpus:
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH") if name in os.environ}


def _environment(
    given: Mapping[str, str], binaries: Path, project: Path | None, temporary: Path, outside: Mapping[str, str]
) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    home = str(temporary)
    places = {"HOME": home, "TMPDIR": home, "XDG_CACHE_HOME": f"{home}/.cache", "HF_HOME": f"{home}/.cache/huggingface"}
    fixed = {
        "PATH": _search_path(binaries),
        "VIRTUAL_ENV": str(binaries.parent),
        **({"PYTHONPATH": str(project)} if project else {}),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "INTERMODAL_MOUNTS": json.dumps(dict(outside)),
    }
    return {**inherited, "USER": "step", "LOGNAME": "step", **places, **fixed, **given}


def _read_on(log: Path, position: int, lines: LineSplitter) -> int:
    """Feed what the log has beyond `position`; return the new position."""
    try:
        with log.open("rb") as stream:
            stream.seek(position)
            while chunk := stream.read(65536):
                lines.feed(chunk)
                position += len(chunk)
    except FileNotFoundError:
        pass
    return position


def _read_exit(launch: Launch, supervisor_code: int | None) -> Exit:
    launch.log.touch()
    try:
        result = json.loads((launch.attempt_dir / _WORK / "exit.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if supervisor_code in (-signal.SIGTERM, -signal.SIGUSR1):
            return Exit(None, Failure(FailureClass.KILLED, "stopped before it began"), 0.0)
        full = disk_full(launch.attempt_dir, None)
        lost = Failure(FailureClass.ENGINE_LOST, "the step's supervisor ended without a word: its exit is not known")
        return Exit(None, full or lost, 0.0)
    if "start_error" in result:
        return Exit(
            None,
            Failure(FailureClass.IMAGE, f"{command_text(launch)!r} cannot be started: {result['start_error']}"),
            0.0,
        )
    code = int(result["code"])
    if result["oom"]:
        code = shell_code(code)
        return Exit(code, out_of_memory(code, None), result["seconds"])
    return judge(code, launch, result["log_error"], result["seconds"])

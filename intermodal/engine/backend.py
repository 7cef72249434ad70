"""The contract between the engine and whatever runs one attempt of one task on this machine.

The engine decides meaning (what runs when, with which values, what counts as success); a backend only starts,
watches and ends one process, truthfully. A backend never looks at a PipelineSpec.

Paths. The engine keeps one folder per attempt on the host (`Launch.attempt_dir`). `Backend.step_root(attempt_dir)` is the
path at which the step sees it: a fixed path inside a container, the folder itself for the process backend. Inputs are
`Mount`s below that root (or anywhere absolute, for a volume); outputs are the folder `outputs` in it, writable. Where nothing
can be shown to a step outside of that root, the variable INTERMODAL_MOUNTS names such mounts: JSON, target -> real path.

A package gives a backend by an entry point of the group `intermodal.backends` (`intermodal.backends.registry`); it keeps this
contract if it passes `intermodal.testing.conformance`. See docs/backends.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable

from intermodal.engine.failure import Failure
from intermodal.spec.document import canonical_json, sha256_text

STEP_UID = 10001
"""Uid and gid of steps in containers where the caller is root."""

_PACKAGES_SCHEMA = 1
"""Part of the identity of installed packages: a change of how they are installed is another image."""

Network = Literal["none", "tracking", "bridge"]
PullPolicy = Literal["missing", "always", "never"]
Relaxation = Literal["writable-root", "image-user", "root", "capabilities"]
"""What of the container contract a step may be spared: a read-only root; the caller's uid (it gets its image's own user and
home, or the container's root); no capabilities (it gets the engine's default set). New privileges are never given."""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can and cannot do, declared so that the planner never has to guess."""

    isolates_filesystem: bool
    isolates_network: bool
    enforces_cpu: bool
    enforces_memory: bool
    gpu: bool
    needs_images: bool
    detached: bool = True
    """Whether attempts outlive the process that started them. Where they do not, `adopt` finds none, and `resume` runs them anew."""
    notes: tuple[str, ...] = ()
    """One line each: what this backend cannot isolate; shown once per run."""


@dataclass(frozen=True)
class Image:
    """An image as resolved before anything runs."""

    reference: str
    """As the pipeline wrote it."""
    id: str
    """What `start` must run, immune to a later change of the tag."""
    digest: str
    """Content identity for the fingerprint: registry digest if there is one, else a hash of content; never a tag."""


@dataclass(frozen=True)
class Wheel:
    """A built Python package on this machine, named by its content."""

    name: str
    version: str
    sha256: str
    path: Path


@dataclass(frozen=True)
class Packages:
    """What a Python component wants in its image beyond what the image has."""

    wheels: tuple[Wheel, ...]
    """All that is to be installed, resolved: nothing else is needed."""
    pip: Wheel
    """A pip that runs on the image's Python, where the image has none."""

    @property
    def identity(self) -> list[list[str]]:
        return [[wheel.name, wheel.version, wheel.sha256] for wheel in self.wheels]


@dataclass(frozen=True)
class Limits:
    """Hard limits of one attempt. None means no limit was asked for."""

    cpus: float | None = None
    memory: int | None = None
    """Bytes."""
    shm: int | None = None
    """Bytes."""
    gpus: int = 0
    pids: int = 4096


@dataclass(frozen=True)
class Mount:
    """A host path shown to the step at `target`. A file or a folder."""

    source: Path
    target: PurePosixPath
    read_only: bool = True


@dataclass(frozen=True)
class Launch:
    """Everything a backend needs to start one attempt."""

    run_id: str
    task: str
    """Path of the task in the run, e.g. `for-loop-1/0/train`; unique within the run."""
    attempt: int
    image: Image
    command: tuple[str, ...]
    """Overrides the image's entry point if not empty."""
    args: tuple[str, ...]
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    attempt_dir: Path
    """Host folder with `outputs/` in it; `outputs/` is the only writable part the step sees (beside volumes)."""
    log: Path
    """Host file to which stdout and stderr are appended as bytes, capped by `log_cap`."""
    limits: Limits = field(default_factory=Limits)
    network: Network = "none"
    door: Path | None = None
    """Of network `tracking`: the host folder with the socket (`backends/relay.py`) that is all the step may reach."""
    relax: frozenset[Relaxation] = frozenset()
    """A backend that does not isolate has nothing to relax."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The pipeline's own labels, for whoever looks at the containers."""
    log_cap: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Exit:
    """How an attempt ended. `failure` is None only if it exited 0 and nothing in it was killed for memory."""

    exit_code: int | None
    failure: Failure | None
    seconds: float
    """Wall time from start to end as the backend knows it."""


def has_other_user(relax: frozenset[Relaxation]) -> bool:
    """Whether a step runs as somebody else than the contract says."""
    return bool(relax & {"image-user", "root"})


def extended(image: Image, packages: Packages) -> str:
    """Return the content identity of an image with packages installed: that of the image, and the hashes of the wheels."""
    document = ["packages", _PACKAGES_SCHEMA, image.digest, sorted(wheel.sha256 for wheel in packages.wheels)]
    return f"sha256:{sha256_text(canonical_json(document))}"


class Backend(Protocol):
    """Runs single attempts. Methods are called from several threads at once.

    Errors that are the attempt's own (image cannot be executed, no space) are `AttemptFailed`; what makes any run
    impossible (no engine) is an `EnvironmentProblem` raised by `prepare`.
    """

    name: str
    capabilities: Capabilities

    def prepare(self, state_dir: Path) -> None:
        """Check, once per run and before anything starts, that attempts can run here. Raises EnvironmentProblem."""

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        """Find the image and its content identity. Raises EnvironmentProblem naming the image."""

    def image_here(self, reference: str, memory: Path | None) -> Image | None:
        """Return the image if it is here, None if it would have to be fetched first; nothing is fetched, built or installed.

        `memory` is the state folder, where hashes are remembered; None: the digest is not wanted and may be empty. What
        `start` needs beside the digest may be missing from the result. Raises EnvironmentProblem if it can never be had.
        """

    def query(self, image: Image, command: Sequence[str]) -> str:
        """Run a short command in the image, without mounts or a network, and return what it printed.

        Raises EnvironmentProblem if it cannot run or exits with another code than 0.
        """

    def install(self, image: Image, packages: Packages) -> Image:
        """Return the image with packages installed as its own pip would install them, without a network. Made once.

        Its digest is that of `extended`. Raises EnvironmentProblem naming the image and the package, AttemptFailed (disk full).
        """

    def export(self, image: Image, path: PurePosixPath, folder: Path) -> Path:
        """Copy the file or folder at `path` of the image into `folder` and return the copy.

        Raises EnvironmentProblem if it is not there, holds more than files and folders, or there are no images here.
        """

    def step_root(self, attempt_dir: Path) -> PurePosixPath:
        """Where the step sees its attempt folder."""

    def start(self, launch: Launch) -> str:
        """Start detached and return a handle that outlives this process. Raises AttemptFailed."""

    def adopt(self, launch: Launch) -> str | None:
        """Return the handle of this very attempt if an earlier process started it, else None. It may have ended since.

        One that was made but never started is removed.
        """

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        """Block until the attempt ends; write its log; call `on_line` with each output line as it comes.

        All of the log is in the file when this returns. Never raises for a failing step: that is an `Exit`.
        """

    def stop(self, handle: str, grace: float) -> None:
        """SIGTERM, wait `grace` seconds, SIGKILL. `wait` then returns. Unknown or ended handles are no error."""

    def remove(self, handle: str) -> None:
        """Remove what `start` made (the container); only what is ours. Idempotent."""

    def cleanup(self, run_id: str) -> int:
        """Remove whatever attempts of the run are left, only ours, and return how many there were.

        Raises EnvironmentProblem if that cannot be known (the engine stopped answering).
        """

    def close(self) -> None:
        """Release clients and threads."""


@dataclass(frozen=True)
class Usage:
    """What an attempt has used so far."""

    cpu_seconds: float
    memory: int
    """Bytes it holds now, without what the kernel could take back (the page cache)."""


@runtime_checkable
class Meter(Protocol):
    """What a backend may offer beside the contract: what an attempt uses."""

    def usage(self, handle: str) -> Usage | None:
        """Return what a running attempt uses, None if that is not known (it has ended). Never raises; takes milliseconds."""


@runtime_checkable
class Shells(Protocol):
    """What a backend may offer beside the contract: a person's shell in the place of an attempt."""

    def shell(self, launch: Launch, command: str | None) -> int:
        """Run an interactive shell on this process's terminal, or `sh -c command`, where the attempt would run; return its exit code.

        The step's own command is in the shell's history. What it starts is gone when this returns, however it returns. Raises
        EnvironmentProblem if the image is gone or has no `sh`.
        """

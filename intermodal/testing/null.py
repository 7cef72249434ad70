"""The null backend: nothing is started. What the engine alone costs, and pipelines with stand-ins for their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from intermodal.backends.exits import judge
from intermodal.engine.backend import Capabilities, Exit, Image, Launch, Packages, PullPolicy, extended
from intermodal.errors import EnvironmentProblem

Behave = Callable[[Launch], int]
"""What an attempt does in place of its process: it may write below `launch.attempt_dir / "outputs"`, and returns an exit code."""


def succeed(_launch: Launch) -> int:
    """Do nothing."""
    return 0


class NullBackend:
    """Calls a function instead of starting a process. It is no backend to run a pipeline for its results."""

    name = "null"
    capabilities = Capabilities(
        isolates_filesystem=False,
        isolates_network=False,
        enforces_cpu=False,
        enforces_memory=False,
        gpu=False,
        needs_images=False,
        detached=False,
        notes=("nothing is started: a function stands in for every step",),
    )

    def __init__(self, behave: Behave = succeed) -> None:
        """`behave` is called in the thread of the attempt, from several threads at once."""
        self._behave = behave

    def prepare(self, state_dir: Path) -> None:
        """Nothing to check."""

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        return Image(reference, reference, f"null:{reference}")

    def image_here(self, reference: str, memory: Path | None) -> Image:
        return self.resolve_image(reference)

    def query(self, image: Image, command: Sequence[str]) -> str:
        """There is nothing to ask. Raises EnvironmentProblem."""
        raise EnvironmentProblem(f"image {image.reference}: the null backend runs nothing, so it cannot be asked")

    def install(self, image: Image, packages: Packages) -> Image:
        return replace(image, digest=extended(image, packages))

    def export(self, image: Image, path: PurePosixPath, folder: Path) -> Path:
        """There are no files of images here. Raises EnvironmentProblem."""
        raise EnvironmentProblem(f"image {image.reference}: the {self.name} backend has no images to take {path} from")

    def step_root(self, attempt_dir: Path) -> PurePosixPath:
        return PurePosixPath(attempt_dir)

    def start(self, launch: Launch) -> str:
        return f"{launch.run_id}/{launch.task}/{launch.attempt}"

    def adopt(self, launch: Launch) -> None:
        """Nothing outlives its process here."""

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        """Let the attempt behave, and say how it ended."""
        return judge(self._behave(launch), launch, None, 0.0)

    def stop(self, handle: str, grace: float) -> None:
        """Nothing runs."""

    def remove(self, handle: str) -> None:
        """Nothing was made."""

    def cleanup(self, run_id: str) -> int:
        return 0

    def close(self) -> None:
        """Nothing is held."""

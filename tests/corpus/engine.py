"""The Docker backend with stand-ins for images, and with eyes: what each attempt was given, how it ended, what it left."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from intermodal.backends.docker import DockerBackend
from intermodal.engine.backend import Exit, Image, Launch, Limits, Mount, PullPolicy
from tests.corpus.facts import PUBLIC_IMAGES, SHARED, Fact
from tests.corpus.images import standin


@dataclass(frozen=True)
class Seen:
    """One attempt: its launch, its exit, and a copy of its `outputs` below `folder`."""

    launch: Launch
    exit: Exit
    folder: Path


class WatchedBackend(DockerBackend):
    """Keeps what it sees of every attempt in `seen`, by task and number."""

    def __init__(self, fact: Fact, folder: Path) -> None:
        """`folder` takes copies of outputs, and the folder that steps share if the pipeline needs one."""
        super().__init__()
        self._fact = fact
        self._folder = folder
        self._standins: Mapping[str, str] = {**PUBLIC_IMAGES, **fact.images}
        self._making = threading.Lock()
        self.seen: dict[tuple[str, int], Seen] = {}

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        name = self._standins.get(reference)
        if name is None:
            return super().resolve_image(reference, "never")
        with self._making:
            made = standin(self._client, name)
        return replace(super().resolve_image(made, "never"), reference=reference)

    def start(self, launch: Launch) -> str:
        return super().start(self._relaxed(launch))

    def _relaxed(self, launch: Launch) -> Launch:
        if self._fact.any_machine:
            launch = replace(launch, limits=Limits(shm=launch.limits.shm))
        if self._fact.shared:
            shared = self._folder / "shared"
            shared.mkdir(exist_ok=True)
            shared.chmod(0o1777)
            launch = replace(launch, mounts=(*launch.mounts, Mount(shared, PurePosixPath(SHARED), read_only=False)))
        return launch

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        ended = super().wait(handle, launch, on_line)
        folder = self._folder.joinpath("attempts", *launch.task.split("/"), str(launch.attempt))
        shutil.copytree(launch.attempt_dir / "outputs", folder / "outputs", symlinks=True)
        self.seen[launch.task, launch.attempt] = Seen(launch, ended, folder)
        return ended

"""The host backend, watched: what was launched, how much at once."""

from __future__ import annotations

from pathlib import Path

from intermodal.engine.backend import Image, Launch, PullPolicy
from intermodal.errors import EnvironmentProblem
from intermodal.testing import HostBackend as PlainHostBackend


class HostBackend(PlainHostBackend):
    """Keeps every launch. `digests` are the digests of images by reference; the image `missing` does not exist, and
    `elsewhere` would have to be fetched first.

    A mount anywhere is a link there: tests choose paths in a folder of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.digests: dict[str, str] = {}
        self.launches: list[Launch] = []
        self.most = 0
        """Attempts at once at most."""

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        if reference == "missing":
            raise EnvironmentProblem(f"image {reference!r} is not here")
        image = super().resolve_image(reference, pull)
        return Image(image.reference, image.id, self.digests.get(reference, image.digest))

    def image_here(self, reference: str, memory: Path | None) -> Image | None:
        return None if reference == "elsewhere" else self.resolve_image(reference)

    def start(self, launch: Launch) -> str:
        for mount in launch.mounts:
            target = Path(mount.target)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(mount.source)
        handle = super().start(launch)
        self.launches.append(launch)
        self.most = max(self.most, len(self._steps))
        return handle

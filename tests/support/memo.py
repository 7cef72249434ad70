"""What a state folder remembers of images, kept from one test's state folder to the next: to hash them all takes half a minute."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEPT = Path(__file__).parents[2] / ".intermodal" / "images"


@contextmanager
def known_images(state: Path) -> Iterator[None]:
    """Let the state folder know the digests of images that were hashed before, and remember those that it hashes."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_KEPT, state / "images", dirs_exist_ok=True)
    yield
    for path in (state / "images").iterdir():
        if not (_KEPT / path.name).exists():
            shutil.copy2(path, _KEPT / path.name)

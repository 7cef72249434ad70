"""What every group of cases stands on: a backend of the subclass, a state folder, attempts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from intermodal.engine.backend import Backend, Image
from intermodal.testing.attempts import Attempts


class Cases:
    """Set `image` and define `make_backend`. Any fixture here may be overridden."""

    image: ClassVar[str]
    """An image (or what stands for one) in which `python` (3.6 or newer) and `sh` can be run."""
    python: ClassVar[str] = "python3"
    missing_image: ClassVar[str] = "intermodal-conformance/no-such-image:none"
    """An image that does not exist."""
    _resolved: ClassVar[Image]

    def make_backend(self, state: Path) -> Backend:
        """Return a new backend for a state folder, as a new process would make it; `prepare` is called by the cases."""
        raise NotImplementedError

    def prepared(self, state: Path) -> Backend:
        backend = self.make_backend(state)
        backend.prepare(state)
        return backend

    @pytest.fixture
    def resolved(self, tmp_path_factory: pytest.TempPathFactory) -> Image:
        """The image, resolved once for all cases of a class: that may take a while."""
        cls = type(self)
        if "_resolved" not in vars(cls):
            backend = self.prepared(tmp_path_factory.mktemp("state"))
            try:
                cls._resolved = backend.resolve_image(self.image)
            finally:
                backend.close()
        return cls._resolved

    @pytest.fixture
    def attempts(self, tmp_path: Path, resolved: Image) -> Iterator[Attempts]:
        """Attempts of a run of the case's own; nothing of it is left afterwards."""
        state = tmp_path / "state"
        state.mkdir()
        made = Attempts(self.prepared(state), state, resolved, self.python)
        yield made
        made.backend.cleanup(made.run_id)
        made.backend.close()

"""From the trained model to the file of one build, each intermediate file made once."""

from __future__ import annotations

from pathlib import Path

from components.converter.builds import Build
from components.converter.export import Trained, export
from components.converter.graph import fuse, quantise
from components.kfp_io import StepError


class Workshop:
    """Makes builds in `folder`. What fails once is not tried again; it fails with the same reason."""

    def __init__(self, trained: Trained, folder: Path) -> None:
        self._trained = trained
        self._folder = folder
        self._failed: dict[Build, str] = {}

    def make(self, build: Build) -> Path:
        """Return the file of `build`. Raises StepError in one line, whatever an exporter or optimiser ran into."""
        target = self._folder / f"{build.name}.onnx"
        if build in self._failed:
            raise StepError(self._failed[build])
        if not target.exists():
            try:
                self._write(build, target)
            except Exception as error:  # exporters raise anything; it is one cell of the matrix that failed
                target.unlink(missing_ok=True)
                text = (error.message if isinstance(error, StepError) else str(error)).strip() or repr(error)
                self._failed[build] = f"{type(error).__name__}: {text.splitlines()[0][:200]}"
                raise StepError(self._failed[build]) from error
        return target

    def _write(self, build: Build, target: Path) -> None:
        if build != build.base:
            quantise(self.make(build.base), target, build)
        elif build != build.export:
            fuse(self.make(build.export), target, build.fusion, self._trained.config)
        else:
            export(self._trained, build.exporter, build.opset, target)

"""An ONNX file that is run by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.converter.frames import read_array, write_array
from components.kfp_io import StepError


class Session:
    """Runs `file`. Raises StepError in one line if the file is refused, cannot be opened, or ends its process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        threads = os.environ.get("OMP_NUM_THREADS", "")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "components.converter.runner", str(file), threads if threads.isdigit() else "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.milliseconds = 0.0
        """Of the last `infer`, as the process itself saw it."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise self._ended()
        if reason := json.loads(line).get("refused"):
            self.close()
            raise StepError(f"{file.name}: {reason}")

    def infer(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return logits [batch, tokens, labels], as Tagger wants them."""
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            write_array(self._child.stdin, ids)
            write_array(self._child.stdin, mask)
            self._child.stdin.flush()
            logits: npt.NDArray[np.float32] = read_array(self._child.stdout)
            self.milliseconds = float(read_array(self._child.stdout))
        except StepError as error:
            self.close()
            raise StepError(f"{self._file.name}: {error.message}") from error
        except (BrokenPipeError, EOFError) as error:
            raise self._ended() from error
        return logits

    def _ended(self) -> StepError:
        self.close()
        code = self._child.returncode
        return StepError(
            f"{self._file.name}: the process that runs it "
            + (f"was ended by signal {-code}" if code < 0 else f"ended with code {code}")
        )

    def close(self) -> None:
        """End the process."""
        if self._child.stdin:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

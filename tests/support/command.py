"""The command in this process: an interpreter of its own would cost a second each time."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from intermodal.cli.main import main


@dataclass(frozen=True)
class Command:
    """`intermodal VERB ...` in a folder, with a state folder."""

    folder: Path
    state: Path

    def __call__(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command and return its exit code and what it wrote, each stream apart."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape") for _ in range(2))
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = main([verb, "--state", str(self.state), *arguments])
                except SystemExit as error:  # argparse
                    code = int(error.code or 0)
                out.flush()
                err.flush()
        finally:
            os.chdir(before)
        return subprocess.CompletedProcess((verb, *arguments), code, out.buffer.getvalue(), err.buffer.getvalue())

    def text(self, verb: str, *arguments: str) -> str:
        """Return what the command prints; it must succeed."""
        done = self(verb, *arguments)
        assert done.returncode == 0, done
        return done.stdout.decode()

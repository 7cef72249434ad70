"""Inputs, outputs, volumes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from intermodal.engine.backend import Mount
from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases

_READ = """
import os, sys
root = os.environ["STEP"] + "/inputs/"
print(open(root + "a b:c/fi le.txt").read() + open(root + "one").read())
for action in (lambda: open(root + "a b:c/new", "w"), lambda: open(root + "one", "w"), lambda: os.remove(root + "a b:c/fi le.txt")):
    try:
        if "try" in sys.argv:
            action()
    except OSError:
        continue
"""
_VOLUME = """
import json, os
places = json.loads(os.environ.get("INTERMODAL_MOUNTS", "{}"))
with open(places.get("/state", "/state") + "/kept", "a") as stream:
    stream.write("x")
"""


class FileCases(Cases):
    """What a step reads and writes is what the engine put there and finds there."""

    def _inputs(self, attempts: Attempts) -> tuple[Path, tuple[Mount, ...], Path]:
        folder = attempts.state / "in put:with,odd=signs"
        folder.mkdir()
        (folder / "fi le.txt").write_text("content")
        one = attempts.state / "one"
        one.write_text("one file")
        attempt = attempts.state / "attempt"
        root = attempts.backend.step_root(attempt) / "inputs"
        return folder, (Mount(folder, root / "a b:c"), Mount(one, root / "one")), attempt

    def test_inputs_are_read_at_their_paths(self, attempts: Attempts) -> None:
        _, mounts, attempt = self._inputs(attempts)
        launch = attempts.code(_READ, mounts=mounts, attempt_dir=attempt)
        assert attempts.run(launch).failure is None, launch.log.read_text()
        assert launch.log.read_bytes() == b"contentone file\n"

    def test_inputs_cannot_be_written_where_files_are_isolated(self, attempts: Attempts) -> None:
        if not attempts.backend.capabilities.isolates_filesystem:
            pytest.skip("declares that it does not isolate files")
        folder, mounts, attempt = self._inputs(attempts)
        launch = attempts.code(_READ, "try", mounts=mounts, attempt_dir=attempt)
        assert attempts.run(launch).failure is None, launch.log.read_text()
        assert [path.name for path in folder.iterdir()] == ["fi le.txt"]
        assert (folder / "fi le.txt").read_text() == "content"
        assert (attempts.state / "one").read_text() == "one file"

    def test_nothing_else_of_the_machine_is_seen_where_files_are_isolated(self, attempts: Attempts) -> None:
        if not attempts.backend.capabilities.isolates_filesystem:
            pytest.skip("declares that it does not isolate files")
        secret = attempts.state / "secret"
        secret.write_text("x")
        launch = attempts.code("import os, sys; raise SystemExit(os.path.exists(sys.argv[1]))", str(secret))
        assert attempts.run(launch).failure is None

    def test_outputs_are_written_below_folders_that_exist(self, attempts: Attempts) -> None:
        source = """
import os
for place in ("/outputs/deep/er/value", "/outputs/top"):
    with open(os.environ["STEP"] + place, "wb") as stream:
        stream.write(bytes(range(256)) * 4096)
os.mkdir(os.environ["STEP"] + "/outputs/folder")
"""
        launch = attempts.code(source)
        (launch.attempt_dir / "outputs/deep/er").mkdir(parents=True)
        assert attempts.run(launch).failure is None, launch.log.read_text()
        for place in ("outputs/deep/er/value", "outputs/top"):
            assert (launch.attempt_dir / place).read_bytes() == bytes(range(256)) * 4096
        assert (launch.attempt_dir / "outputs/folder").is_dir()

    def test_a_volume_outlives_the_attempt(self, attempts: Attempts) -> None:
        volume = attempts.state / "volumes" / "study:1"
        volume.mkdir(parents=True)
        mount = Mount(volume, PurePosixPath("/state"), read_only=False)
        for _ in range(2):
            launch = attempts.code(_VOLUME, mounts=(mount,))
            assert attempts.run(launch).failure is None, launch.log.read_text()
        assert (volume / "kept").read_text() == "xx"

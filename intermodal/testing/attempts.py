"""Runs single attempts as the engine would."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intermodal.engine.backend import Backend, Exit, Image, Launch, Limits

PATIENCE = 90.0


@dataclass
class Attempts:
    """Makes and runs attempts of one run in one state folder."""

    backend: Backend
    state: Path
    image: Image
    python: str
    """What runs Python in the image."""
    run_id: str = field(default_factory=lambda: f"test-{secrets.token_hex(6)}")
    count: int = 0

    def launch(self, *command: str, **changes: Any) -> Launch:
        """Return the launch of a new task's first attempt; `changes` are fields of Launch.

        The variable STEP is where the step sees its attempt folder.
        """
        self.count += 1
        attempt = changes.pop("attempt_dir", None) or self.state / "attempts" / str(self.count)
        (attempt / "outputs").mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "run_id": self.run_id,
            "task": f"task-{self.count}",
            "attempt": 1,
            "image": self.image,
            "command": command,
            "args": (),
            "mounts": (),
            "attempt_dir": attempt,
            "log": self.state / f"{self.count}.log",
            "limits": Limits(memory=256 * 2**20),
        }
        env = {"STEP": str(self.backend.step_root(attempt)), **changes.pop("env", {})}
        return Launch(env=env, **settings | changes)

    def code(self, source: str, *arguments: str, **changes: Any) -> Launch:
        """Return the launch of a Python program."""
        return self.launch(self.python, "-c", source, *arguments, **changes)

    def run(self, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        """Start, wait, remove."""
        handle = self.backend.start(launch)
        try:
            return self.wait(handle, launch, on_line)
        finally:
            self.backend.remove(handle)

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        """Wait as the engine does, but no longer than any case here needs: a backend that hangs fails instead."""
        ends: list[Exit | BaseException] = []

        def body() -> None:
            try:
                ends.append(self.backend.wait(handle, launch, on_line))
            except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the test
                ends.append(error)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if not ends:
            raise AssertionError(f"wait did not return within {PATIENCE:g} s")
        if isinstance(ends[0], BaseException):
            raise ends[0]
        return ends[0]

"""Runs one attempt as the engine would."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intermodal.engine.backend import Backend, Exit, Image, Launch, Limits


@dataclass
class Runner:
    """Runs attempts of one run in one state folder."""

    backend: Backend
    state: Path
    image: Image
    python: str
    run_id: str = field(default_factory=lambda: f"test-{secrets.token_hex(6)}")
    count: int = 0

    def launch(self, *command: str, **changes: Any) -> Launch:
        self.count += 1
        attempt = self.state / "attempts" / str(self.count)
        (attempt / "outputs").mkdir(parents=True)
        settings: dict[str, Any] = {
            "run_id": self.run_id,
            "task": f"task-{self.count}",
            "attempt": 1,
            "image": self.image,
            "command": command,
            "args": (),
            "env": {},
            "mounts": (),
            "attempt_dir": attempt,
            "log": self.state / f"{self.count}.log",
            "limits": Limits(memory=256 * 2**20),
        }
        return Launch(**settings | changes)

    def code(self, source: str, **changes: Any) -> Launch:
        return self.launch(self.python, "-c", source, **changes)

    def run(self, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        handle = self.backend.start(launch)
        try:
            return self.backend.wait(handle, launch, on_line)
        finally:
            self.backend.remove(handle)

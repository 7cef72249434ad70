"""One line of a doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """What was looked at and how it is. `fail` means that runs cannot work, `warn` that they may not."""

    level: Literal["ok", "warn", "fail"]
    name: str
    message: str
    hint: str | None = None

    def line(self) -> str:
        hint = f"  -> {self.hint}" if self.hint else ""
        return f"{self.level:<4}  {self.name:<10}  {self.message}{hint}"

"""How many processes the kernel has killed for memory, as far as it tells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def memory_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes around this one were killed for memory so far; None where the kernel does not say.

    Counted in this process's cgroup (which its children share); outside of any, in the whole machine. `root` is for tests.
    """
    for counter in _counters(root):
        with contextlib.suppress(OSError, ValueError):
            for entry in counter.read_text(encoding="utf-8").splitlines():
                key, _, value = entry.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return None


def _counters(root: Path) -> Iterator[Path]:
    """Yield the files that may hold the counter, best first."""
    groups = root / "sys/fs/cgroup"
    limited = False
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            hierarchy, name = groups / "memory", "memory.oom_control"
        elif not controllers:
            hierarchy, name = groups, "memory.events"
        else:
            continue
        relative = path.lstrip("/")
        limited = limited or bool(relative)
        yield hierarchy / relative / name
        yield hierarchy / name  # a container sees its own cgroup as the root, whatever the path says
    if not limited:
        yield root / "proc/vmstat"

"""A run in which nothing has to run: the NER factory's compiled YAML, everything cached, with light and with heavy artifacts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import steps
from benchmarks.command import compile_pipeline, intermodal
from benchmarks.figures import Figure, within

_ROUNDS = 5
_FACTORY = Path("pipelines/ner.py")


def factory(folder: Path) -> list[Figure]:
    """Compile the factory, run it once on its smallest configuration, then again and again."""
    path = folder / "ner.yaml"
    subprocess.run([sys.executable, "-m", "intermodal", "compile", str(_FACTORY), "-o", str(path)], check=True)
    arguments = folder / "arguments.yaml"
    arguments.write_text(_smoke_arguments(), encoding="utf-8")
    state = folder / "ner"
    first, _ = intermodal(path, "--config", arguments, state=state)
    times = [_cached(path, state, "--config", arguments) for _ in range(_ROUNDS)]
    what = f"the NER factory's YAML, all cached ({first:.0f} s before), {_weight(state)} of artifacts"
    return [within(what, times, 1.0)]


def heavy(folder: Path) -> list[Figure]:
    """One step that writes 1 GiB and one that reads it, all cached."""
    path = compile_pipeline(steps.heavy, folder)
    state = folder / "heavy"
    first, _ = intermodal(path, state=state)
    times = [_cached(path, state) for _ in range(_ROUNDS)]
    return [within(f"a pipeline with a 1 GiB artifact, all cached ({first:.0f} s before)", times, 1.0)]


def _cached(path: Path, state: Path, *more: str | Path) -> float:
    seconds, result = intermodal(path, *more, state=state)
    if result["state"] != "CACHED":
        raise RuntimeError(f"expected all of it cached, got {result['state']}")
    return seconds


def _smoke_arguments() -> str:
    """Return the arguments that the pipeline file itself makes of the smoke configuration, as JSON, which is YAML."""
    from intermodal.sources import read_values
    from pipelines import ner

    return json.dumps(dict(ner.configure(read_values(Path("pipelines/configs/smoke.yaml"), []))))


def _weight(state: Path) -> str:
    size = sum(path.stat().st_size for path in (state / "store").rglob("*") if path.is_file())
    return f"{size / 2**20:.0f} MiB"

"""Where a training stands, on a volume that outlives the process: an interrupted training goes on and ends with the same weights.

A checkpoint holds all that the rest depends on: weights, optimiser, schedule, both random generators, the place in the epoch, and the
best epoch so far. It is found by the identity of the training: data, backbone, settings, seed, code and whatever else changes bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components.kfp_io import StepError
from components.trainer.processes import Processes

FOLDER = "trainings"
"""Folder of the state volume."""
_FILE = "checkpoint.pt"


def training_identity(facts: Mapping[str, Any]) -> str:
    """Return the name of the training that `facts` describe, on this code, version of torch and number of threads."""
    code = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(__file__).parents[1] / "ner"):
        for path in sorted(folder.glob("*.py")):
            code.update(path.read_bytes())
    machine = {"code": code.hexdigest(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    text = json.dumps({**facts, **machine}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class Checkpoints:
    """The checkpoint of one training. `seconds` lie between two of them at least; none is written if that is infinite."""

    folder: Path
    seconds: float
    log: Callable[[str], None]
    written: float
    processes: Processes

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, None if there is none that can be used. Each process reads it for itself."""
        state = self._read() if self.processes.first else None
        if not self.processes.broadcast(lambda: state is not None):
            return None
        state = state or self._read()
        if state is None:
            raise StepError(f"checkpoint {self.folder / _FILE} can be read by some of the training's processes alone")
        return state

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / _FILE
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            return state
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            self.log(f"checkpoint {path} cannot be read, so the training begins anew: {str(error).splitlines()[0]}")
            return None

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save what `state` gives, if it is time. A volume that is full or gone is said once and ends nothing."""
        if time.monotonic() - self.written < self.seconds:
            return
        path = self.folder / _FILE
        temporary = path.with_suffix(".part")
        try:
            with temporary.open("wb") as stream:
                torch.save(dict(state()), stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch turns a write that fails into a RuntimeError
            self.log(f"no checkpoints any more: {str(error).splitlines()[0]}")
            self.seconds = math.inf
        self.written = time.monotonic()

    def discard(self) -> None:
        """Remove the training's folder: it has left its model."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def open_checkpoints(
    state: Path | None, identity: Callable[[], str], seconds: float, log: Callable[[str], None], processes: Processes
) -> Iterator[Checkpoints | None]:
    """Give the checkpoints of training `identity` in folder `state`; the first process writes them, all of them read.

    None without a folder; or, said in one line, if another training has them or nobody can write.
    """
    if state is None:
        yield None
        return
    folder = state / FOLDER / identity()
    with ExitStack() as held:
        mine = processes.first and held.enter_context(_writable(folder, log))
        if not processes.broadcast(lambda: mine):
            yield None
        else:
            yield Checkpoints(folder, seconds if mine else math.inf, log, time.monotonic(), processes)


@contextmanager
def _writable(folder: Path, log: Callable[[str], None]) -> Iterator[bool]:
    """Hold `folder` against other trainings; give whether that could be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        log(f"no checkpoints: {folder} cannot be written: {error.strerror}")
        yield False
        return
    try:
        locked = _locked(descriptor)
        if not locked:
            log(f"no checkpoints: another process trains the same in {folder}")
        yield locked
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

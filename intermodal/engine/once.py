"""Values that are worked out once, whoever asks and however many ask at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from intermodal.errors import IntermodalError

Value = TypeVar("Value")


class Locks:
    """A lock for each name."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold the lock of `name`."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            yield


class Once(Generic[Value]):
    """Remembers by key; of several threads that ask for the same one works and the others wait.

    What a person can mend (an `IntermodalError`) is remembered too: the tenth task with the same image gets the same answer as the first,
    not another minute of trying.
    """

    def __init__(self) -> None:
        self._locks = Locks()
        self._values: dict[str, Value] = {}
        self._errors: dict[str, IntermodalError] = {}

    def knows(self, key: str) -> bool:
        """Whether `get` answers at once."""
        return key in self._values or key in self._errors

    def get(self, key: str, work: Callable[[], Value]) -> Value:
        """Return the value of `key`, from `work` if it is not known. Raises what `work` raises."""
        with self._locks.held(key):
            if key in self._errors:
                raise self._errors[key]
            if key not in self._values:
                try:
                    self._values[key] = work()
                except IntermodalError as error:
                    self._errors[key] = error
                    raise
            return self._values[key]

"""`enum.StrEnum` for Python 3.9: the launcher of tasks in a cluster shares code with the engine, and its images are older."""

from enum import Enum


class Word(str, Enum):
    """An enumeration whose members are their text, also where they are printed."""

    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]

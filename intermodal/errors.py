"""Errors meant for people: one line that names the thing and the value, a hint, a documented exit code."""

from __future__ import annotations

from enum import IntEnum

_LONGEST = 1000


class ExitCode(IntEnum):
    """What the command's exit status means (documented in docs/cli.md)."""

    OK = 0
    RUN_FAILED = 1
    """The pipeline ran and a task in it failed."""
    BAD_INPUT = 2
    """An argument, a file or a setting is wrong; nothing was started."""
    ENVIRONMENT = 3
    """Something this machine must provide is missing: an engine, an image, disk space."""
    UNSUPPORTED = 4
    """The pipeline asks for a construct that this backend refuses."""
    INTERNAL = 70
    """A defect of intermodal itself."""
    CANCELLED = 130
    """Stopped by the user (Ctrl-C) or by SIGTERM."""


def one_line(text: str) -> str:
    """Return text for one line on a terminal: line ends are spaces, what cannot be seen is escaped, what is endless is cut."""
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


class IntermodalError(Exception):
    """A failure that the user can understand and mend.

    `message` is one line that names the thing and the value; `hint` says what to do about it. Both may quote anything: they are
    made fit for a terminal here.
    """

    exit_code: ExitCode = ExitCode.ENVIRONMENT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = one_line(message)
        self.hint = one_line(hint) if hint is not None else None
        super().__init__(self.message)
        if self.hint:
            self.__notes__ = [f"hint: {self.hint}"]  # what a traceback shows from Python 3.11 on


class BadInput(IntermodalError):
    """The user's input is wrong; nothing was started."""

    exit_code = ExitCode.BAD_INPUT


class Unsupported(IntermodalError):
    """The pipeline asks for a construct that is refused: names the construct, the task and what to do instead."""

    exit_code = ExitCode.UNSUPPORTED


class EnvironmentProblem(IntermodalError):
    """The machine lacks something: an engine, an image, disk space, a tool."""

    exit_code = ExitCode.ENVIRONMENT

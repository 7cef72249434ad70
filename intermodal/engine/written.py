"""Reading what a step wrote. It may be anything: nothing here follows a link, blocks on a FIFO, or takes more memory than is said."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from intermodal.engine.values import invalid

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 2**20


def read_regular(folder: Path, parts: Sequence[str], limit: int, place: str) -> bytes | None:
    """Return the content of the file at `parts` below `folder`, None if absent.

    A link in place of any part is refused, not only of the last. Raises AttemptFailed(OUTPUT_INVALID) for anything but a regular
    file of at most `limit` bytes.
    """
    descriptor = _open(folder, parts, place)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise invalid(f"{place}: {size} bytes are too many (at most {limit})")
        return stream.read()


def check_text(path: Path, place: str) -> None:
    """Raise AttemptFailed(OUTPUT_INVALID) unless the file is UTF-8 text; it is read in pieces, whatever its size."""
    descriptor = _open(path.parent, [path.name], place)
    if descriptor is None:
        raise invalid(f"{place}: is gone")
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = 0
    with os.fdopen(descriptor, "rb") as stream:
        try:
            while chunk := stream.read(_CHUNK):
                decoder.decode(chunk)
                position += len(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            byte = max(0, position + error.start)
            raise invalid(f"{place}: is not UTF-8 text (near byte {byte})") from error


def _open(folder: Path, parts: Sequence[str], place: str) -> int | None:
    """Open the regular file at `parts` below `folder`, a folder of ours; None if it is not there."""
    parent = os.open(folder, _FOLDER)
    try:
        for name in parts[:-1]:
            inner = os.open(name, _FOLDER, dir_fd=parent)
            os.close(parent)
            parent = inner
        descriptor = os.open(parts[-1], _FILE, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise invalid(f"{place}: cannot be read: {error.strerror}") from error
    finally:
        os.close(parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise invalid(f"{place}: is not a regular file")
    return descriptor

"""Taking a snapshot: each content is put at the place unless it is there, and all that the snapshot names is read back."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from intermodal.backup.copying import Say, copy_file, list_files
from intermodal.backup.places import Place
from intermodal.backup.snapshot import SCHEMA, Damaged, File, Snapshot, check_object, object_name, read_snapshot
from intermodal.errors import BadInput, EnvironmentProblem

WAIT = 60.0
"""Seconds to wait for a database that another process holds locked."""


@dataclass(frozen=True)
class Sent:
    """What a backup did."""

    snapshot: str
    files: int
    bytes: int
    new_files: int
    """Files whose content was not at the place before."""
    new_bytes: int
    healed_files: int
    """Files whose content at the place was damaged, and was put there anew."""


def back_up(folders: Mapping[str, Path], place: Place, say: Say, *, wait: float = WAIT) -> Sent:
    """Take a snapshot of folders, safe while they are in use.

    What the place has is not sent again, but is read back too: it may have been damaged since. An SQLite database is copied by SQLite
    itself; of a file that only grows, a beginning is copied. Links, sockets and the like are left out and said. Raises BadInput for a
    folder that is not there, EnvironmentProblem.
    """
    listed: dict[str, list[File]] = {}
    with tempfile.TemporaryDirectory(prefix="intermodal-backup-") as scratch:
        copy = Path(scratch, "copy")
        sender = _Sender(place, say)
        for name, folder in folders.items():
            if not folder.is_dir():
                raise BadInput(f"{folder}: there is no such folder")
            listed[name] = []
            for path in list_files(folder, say):
                try:
                    digest = copy_file(path, copy, wait)
                except FileNotFoundError:
                    continue  # gone since it was listed: it is no part of this time's folder
                file = File(path=path.relative_to(folder).as_posix(), size=copy.stat().st_size, sha256=digest)
                sender.send(file, copy)
                listed[name].append(file)
        name = _close(place, listed, copy)
    files = [file for files in listed.values() for file in files]
    new = sender.new.values()
    return Sent(name, len(files), sum(file.size for file in files), len(new), sum(new), sender.healed)


class _Sender:
    """Sends what the place does not have, and looks at each content once."""

    def __init__(self, place: Place, say: Say) -> None:
        self._place = place
        self._say = say
        self._seen: set[str] = set()
        self.new: dict[str, int] = {}
        """sha256 -> bytes of what was not there."""
        self.healed = 0

    def send(self, file: File, content: Path) -> None:
        if file.sha256 in self._seen:
            return
        wrong = check_object(self._place, file)
        if wrong:
            self._place.put(object_name(file.sha256), content)
            if check_object(self._place, file):
                raise EnvironmentProblem(
                    f"{self._place.address}: what was written as {object_name(file.sha256)} reads back otherwise"
                )
        if wrong == "missing":
            self.new[file.sha256] = file.size
        elif wrong:
            self.healed += 1
            self._say(f"{file.path}: was damaged at the place ({wrong}), put there anew")
        self._seen.add(file.sha256)


def _close(place: Place, listed: dict[str, list[File]], scratch: Path) -> str:
    """Put the file that makes a snapshot of what was sent, and read it back; return its name."""
    created = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    snapshot = Snapshot(schema_version=SCHEMA, created=created, folders=listed)
    content = snapshot.model_dump_json(indent=1).encode()
    scratch.write_bytes(content)
    name = f"snapshots/{created}-{hashlib.sha256(content).hexdigest()}.json"
    place.put(name, scratch)
    try:
        read_snapshot(place, name)
    except Damaged as error:
        raise EnvironmentProblem(
            f"{place.address}: what was written as {name} reads back otherwise: {error}"
        ) from error
    return name

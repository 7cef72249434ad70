"""Keeping Optuna studies on a mounted drive, as notebooks on machines that go away need it."""

from __future__ import annotations

import sys
from pathlib import Path

from intermodal.backup.places import open_place
from intermodal.backup.sending import Sent, back_up
from intermodal.errors import BadInput

_STORAGES = ("study.db", "journal.log")
"""What a study's folder holds: an SQLite database, or Optuna's journal."""


def backup_hpo_study_to_drive(study_folder: Path, drive_folder: Path) -> Sent:
    """Keep a study, or all studies below a folder, in a folder of a mounted drive, and read back what was written.

    `study_folder` holds a study itself (`study-<hash>/study.db`, `journal.log`; in the older layout `study.db` in the folder of the
    backbone) or folders of studies. It is safe while trials run; `intermodal restore DRIVE` brings it back. Raises BadInput if there
    is no study there or no such drive, EnvironmentProblem.
    """
    if not study_folder.is_dir():
        raise BadInput(f"{study_folder}: there is no such folder")
    places = [study_folder, *(path for path in study_folder.glob("*") if path.is_dir())]
    if not any((place / name).is_file() for place in places for name in _STORAGES):
        raise BadInput(f"{study_folder}: holds no study", hint=f"a study is a folder with {' or '.join(_STORAGES)}")
    if study_folder.resolve().is_relative_to(drive_folder.resolve()):
        raise BadInput(
            f"{study_folder}: lies in {drive_folder} already", hint="name the folder that the study is worked on in"
        )
    place = open_place(str(drive_folder), make=True)
    return back_up({study_folder.resolve().name: study_folder}, place, lambda text: print(text, file=sys.stderr))

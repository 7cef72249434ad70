"""A search in its image that goes on with a study which a backup brought to another machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.components.conftest import STEP_UID
from tests.components.hpo.test_step import argv, table
from tests.support.command import Command

pytestmark = pytest.mark.engine


def test_a_search_goes_on_from_a_backup(run_step, few_documents, tiny_backbone, tmp_path):
    (tmp_path / "out").mkdir()
    for verb, trials in (("backup", 2), ("restore", 4)):
        intermodal = Command(tmp_path, tmp_path / verb)
        volume = intermodal.state / "volumes" / "hpo"
        if verb == "backup":
            volume.mkdir(parents=True)
        else:
            assert intermodal("restore", str(tmp_path / "drive")).returncode == 0
            _give(volume)
        mounts = {few_documents: "/dataset", tiny_backbone: "/backbone", tmp_path / "out": "/out", volume: "/state"}
        done = run_step("hpo", argv(trials=trials, epochs=1, pruner="none"), mounts).ok()
        assert f": {trials - 2} of {trials} trials are done" in done.stdout
        if verb == "backup":
            first = table(tmp_path)
            sent = intermodal("backup", str(tmp_path / "drive"), "--json")
            assert json.loads(sent.stdout)["new_files"] > 0
    assert len(first) == 2 and table(tmp_path)[:2] == first and len(table(tmp_path)) == 4


def _give(volume: Path) -> None:
    """Give what was restored to the user of the steps, as the engine does with a volume."""
    if os.geteuid() == 0:
        for folder, _, files in os.walk(volume):
            for path in (folder, *(f"{folder}/{name}" for name in files)):
                os.chown(path, STEP_UID, STEP_UID)

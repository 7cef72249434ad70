"""Lists of faults, as the command takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intermodal.backends.azureml.emulator.faults import Fault, read_faults
from intermodal.errors import BadInput


def test_lists_of_faults_are_read(tmp_path: Path):
    path = tmp_path / "faults.json"
    path.write_text('[{"fault": "throttle", "times": 2}]')
    assert read_faults(path) == [Fault(fault="throttle", times=2)]
    for wrong, words in (
        ([{"fault": "explode"}], "0.fault"),
        ([{"fault": "drop", "often": 1}], "0.often"),
        ([{"fault": "drop", "path": "("}], "regular expression"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(BadInput, match=words):
            read_faults(path)

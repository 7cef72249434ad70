"""The matrix of builds as an argument, the process that runs a file, and the rule of the race; no image needed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from components.converter.builds import FULL, SMALL, parse_conversion
from components.converter.choose import fastest
from components.converter.session import Session
from components.kfp_io import StepError
from tests.components.benchmarker.test_step import bomb, tagging_model
from tests.components.ner.test_onnx_file import model, outside


def test_the_small_matrix_is_the_default_and_the_full_one_holds_it():
    assert [build.name for build in parse_conversion({})] == list(SMALL)
    full = parse_conversion({"builds": "full"})
    assert set(SMALL) < {build.name for build in full} and len(full) == len(FULL) == 54
    assert {build.variant for build in full} == {"fp32", "int8"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"build": "small"}, "known: builds"),
        ({"builds": "smal"}, "neither small nor full"),
        ({"builds": []}, "neither small nor full"),
        ({"builds": ["dynamo-18-none-int8"]}, "none is fp32"),
        ({"builds": ["dynamo-18-none-fp32", "dynamo-18-none-fp32"]}, "stands twice"),
        ({"builds": ["dinamo-18-none-fp32"]}, "did you mean 'dynamo'?"),
        ({"builds": ["dynamo-18-none-int9"]}, "did you mean 'int8'?"),
        ({"builds": ["torchscript-23-none-fp32"]}, "torchscript writes opsets 17 to 20"),
    ],
)
def test_a_wrong_matrix_is_named(values, words):
    with pytest.raises(StepError) as error:
        parse_conversion(values)
    assert words in f"{error.value.message} {error.value.hint}"


def test_a_later_build_must_be_clearly_faster_in_every_round():
    first, second, third = parse_conversion({"builds": list(SMALL[:3])})
    assert fastest({first: [10.0] * 5, second: [9.8] * 5}) == first
    assert fastest({first: [10.0] * 5, second: [8.0, 8.0, 8.0, 8.0, 10.5]}) == first
    assert fastest({first: [10.0] * 5, second: [9.0] * 5, third: [8.0] * 5}) == third


IDS = np.array([[1, 4, 5, 2]], dtype=np.int64)


def test_a_file_is_run_and_timed_in_a_process_of_its_own(tmp_path: Path):
    tagging_model(tmp_path / "m.onnx", wrong=False)
    with Session(tmp_path / "m.onnx") as session:
        assert (
            session.infer(IDS, np.ones_like(IDS)).argmax(axis=2).tolist() == [[0, 1, 0, 0]] and session.milliseconds > 0
        )


@pytest.mark.parametrize("what", ["garbage", "external", "bomb", "wrong inputs"])
def test_a_hostile_file_ends_its_process_and_is_one_line(tmp_path: Path, what: str):
    file = tmp_path / "m.onnx"
    if what == "garbage":
        file.write_bytes(b"no model")
    elif what == "bomb":
        bomb(file)
    else:
        made = model(weights=[outside("/etc/passwd")] if what == "external" else [])
        file.write_bytes(made.SerializeToString())
    with pytest.raises(StepError, match=r"m\.onnx: ") as error, Session(file) as session:
        session.infer(IDS, np.ones_like(IDS))
    assert "\n" not in error.value.message


def test_a_process_that_is_killed_is_an_error_that_names_the_file(tmp_path: Path):
    tagging_model(tmp_path / "m.onnx", wrong=False)
    with (
        pytest.raises(StepError, match=r"m\.onnx: the process that runs it was ended by signal 9"),
        Session(tmp_path / "m.onnx") as session,
    ):
        os.kill(session._child.pid, signal.SIGKILL)
        session._child.wait()
        session.infer(IDS, np.ones_like(IDS))

"""Hostile model files are refused before any runtime opens them; what the exporters make is not (tests/components/converter)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.kfp_io import StepError
from components.ner.onnx_file import check_onnx


def model(
    *, nodes: list[onnx.NodeProto] | None = None, weights: list[onnx.TensorProto] | None = None
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])
    graph = helper.make_graph(
        nodes or [helper.make_node("Identity", ["x"], ["y"])], "g", [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])], weights or [],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def outside(location: str, *, flag: bool = True, entries: bool = True) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    if entries:
        onnx.external_data_helper.set_external_data(tensor, location)
    tensor.data_location = TensorProto.EXTERNAL if flag else TensorProto.DEFAULT
    return tensor


def nested(depth: int, tensor: onnx.TensorProto | None = None) -> onnx.NodeProto:
    """An If in an If in an If."""
    inner = (
        nested(depth - 1, tensor)
        if depth
        else helper.make_node("Constant", [], ["y"], value=tensor or outside("", flag=False, entries=False))
    )
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    branch = helper.make_graph([inner], "b", [], [out])
    return helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)


def with_function() -> onnx.ModelProto:
    found = model()
    found.functions.append(
        helper.make_function("f", "F", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], [])
    )
    return found


def twice(first: onnx.ModelProto, second: onnx.ModelProto) -> bytes:
    """Two messages in a row are one message to protobuf, with the graphs of both merged."""
    return first.SerializeToString() + second.SerializeToString()


HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "external data": (lambda: model(weights=[outside("w.bin")]), "external data"),
    "external data elsewhere": (lambda: model(weights=[outside("../../etc/passwd")]), "external data"),
    "external data, absolute": (lambda: model(weights=[outside("/etc/passwd")]), "external data"),
    "external data without the flag": (lambda: model(weights=[outside("/etc/passwd", flag=False)]), "external data"),
    "the flag without a place": (lambda: model(weights=[outside("", entries=False)]), "external data"),
    "external data in a branch": (lambda: model(nodes=[nested(2, outside("w.bin"))]), "external data"),
    "external data, merged in": (lambda: twice(model(), model(weights=[outside("w.bin")])), "external data"),
    "a custom operator": (lambda: model(nodes=[helper.make_node("Evil", ["x"], ["y"], domain="my.ops")]), "'my.ops'"),
    "functions of its own": (with_function, "functions"),
    "graphs within graphs": (lambda: model(nodes=[nested(9)]), "nested"),
    "cut short": (lambda: model(weights=[numpy_helper.from_array(np.ones(99, np.float32), "w")]).SerializeToString()[:-60], "longer"),
    "no model": (lambda: b"PK\x03\x04" + os.urandom(64), "is refused"),
    "empty": (lambda: b"", "has 0 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_by_name_and_reason(tmp_path: Path, case: str):
    make, words = HOSTILE[case]
    made = make()
    file = tmp_path / "model.onnx"
    file.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises(StepError) as error:
        check_onnx(file)
    assert error.value.message.startswith(str(file)) and words in error.value.message


def test_what_is_no_file_of_its_own_is_refused(tmp_path: Path):
    real = tmp_path / "real.onnx"
    onnx.save(model(nodes=[nested(2)]), str(real))
    check_onnx(real)
    (tmp_path / "link.onnx").symlink_to(real)
    os.mkfifo(tmp_path / "pipe.onnx")  # opening it to read would wait for ever
    with (tmp_path / "huge.onnx").open("wb") as stream:
        stream.truncate(2**31)
    for name, words in (
        ("link", "is a link"),
        ("pipe", "no regular file"),
        ("huge", "2147483648 bytes"),
        ("gone", "No such file"),
    ):
        with pytest.raises(StepError, match=words):
            check_onnx(tmp_path / f"{name}.onnx")

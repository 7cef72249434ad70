"""Threads of a runtime that is timed: each on a processor of its own, as the kernel tells it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from components.benchmarker.processors import pin_openmp, processors

ROOT = Path(__file__).parents[3]

SESSION = """
import json, os, sys
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper
from components.benchmarker.processors import pin_onnxruntime
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64])
graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "g", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
before = {int(task) for task in os.listdir("/proc/self/task")}
options = ort.SessionOptions()
pin_onnxruntime(options, int(sys.argv[1]))
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
session.run(None, {"x": np.ones((64, 64), np.float32)})
after = {int(task) for task in os.listdir("/proc/self/task")}
print(json.dumps([sorted(os.sched_getaffinity(0)), [sorted(os.sched_getaffinity(task)) for task in sorted(after - before)]]))
"""


def _seen(threads: int) -> tuple[list[int], list[list[int]]]:
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(threads)],
        cwd=ROOT,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    main, others = json.loads(done.stdout)
    return main, others


def test_each_thread_of_a_session_has_a_processor_of_its_own():
    mine = sorted(os.sched_getaffinity(0))
    main, others = _seen(len(mine))
    assert main == mine[:1]
    assert others == [[number] for number in mine[1:]]


def test_more_threads_than_processors_are_left_to_the_kernel():
    mine = sorted(os.sched_getaffinity(0))
    main, others = _seen(len(mine) + 1)
    assert main == mine and others == [mine] * len(mine)
    assert processors(len(mine) + 1) == processors(0) == []


def test_openmp_is_told_the_same_places():
    environment: dict[str, str] = {}
    pin_openmp(environment, 1)
    first = min(os.sched_getaffinity(0))
    assert environment == {"OMP_PLACES": f"{{{first}}}", "OMP_PROC_BIND": "true"}

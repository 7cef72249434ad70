"""The process that opens an ONNX file: `python -m components.converter.runner FILE THREADS`.

Says in one line of JSON whether it could; then reads pairs of arrays (ids, mask) from stdin and answers each with the logits and the
milliseconds that they took. A file that crashes its runtime ends this process and no other, and no code of the exporter is in it.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from components.converter.frames import read_array, write_array
from components.kfp_io import StepError
from components.ner.onnx_file import check_onnx


def main() -> None:
    """Serve until stdin ends. What goes wrong is the last answer, in one line, and exit 2."""
    file, threads = sys.argv[1:]
    with suppress(OSError):  # should the memory not suffice, the kernel ends this process, not the one that asks
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        check_onnx(Path(file))
        session = _open(file, int(threads))
        print(json.dumps({"ready": True}), flush=True)
        with suppress(EOFError):
            _serve(session)
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes of the checker or the runtime
        reason = error.message if isinstance(error, StepError) else str(error).strip() or repr(error)
        print(json.dumps({"refused": reason.splitlines()[0]}), flush=True)
        raise SystemExit(2) from None


def _serve(session: Any) -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        ids, mask = read_array(source), read_array(source)
        begin = time.perf_counter_ns()
        (logits,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        taken = np.array((time.perf_counter_ns() - begin) / 1e6)
        write_array(sink, np.asarray(logits, dtype=np.float32))
        write_array(sink, taken)
        sink.flush()


def _open(file: str, threads: int) -> Any:
    import onnx
    import onnxruntime as ort

    onnx.checker.check_model(file, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()

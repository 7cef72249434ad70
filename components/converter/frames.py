"""Arrays through a pipe: a line of JSON that says type and shape, then the bytes. NumPy's own format wants files that it can seek in."""

from __future__ import annotations

import json
import math
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from components.kfp_io import StepError

_TYPES = ("int64", "float32", "float64")


def write_array(stream: IO[bytes], array: npt.NDArray[Any]) -> None:
    """Write `array`; its type must be one of int64, float32, float64."""
    stream.write(json.dumps([_TYPES.index(array.dtype.name), *array.shape]).encode() + b"\n")
    stream.write(np.ascontiguousarray(array).tobytes())


def read_array(stream: IO[bytes]) -> npt.NDArray[Any]:
    """Read what write_array wrote. Raises EOFError if the stream ends before it is whole, StepError if the other side says
    why there is none."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    if isinstance(header, dict):
        raise StepError(str(header["refused"]))
    kind, *shape = header
    dtype = np.dtype(_TYPES[kind])
    data = stream.read(dtype.itemsize * math.prod(shape))
    if len(data) < dtype.itemsize * math.prod(shape):
        raise EOFError
    return np.frombuffer(data, dtype).reshape(shape)

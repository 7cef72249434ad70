"""A champion as an MLflow model: the ONNX flavour, with signature and input example, holding the very bytes that were chosen."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.errors import BadInput, EnvironmentProblem

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

EXAMPLE_LENGTH = 8
CARD = "model_card.md"
BUNDLE = "bundle"
"""Folder of the MLflow model that holds the rest of the champion: tokenizer, labels, manifest, example."""


def save_model(
    file: Path, folder: Path, card: str, metadata: Mapping[str, str], *, manifest: Mapping[str, Any]
) -> None:
    """Write the MLflow model of an ONNX file to `folder`, which is not there yet.

    What else lies beside the file, if it is a bundle, comes along. Raises BadInput if it is no ONNX model, EnvironmentProblem if MLflow
    or onnx are not installed.
    """
    try:
        import mlflow.onnx
        import onnx
    except ImportError as error:
        raise EnvironmentProblem(
            f"registering a model needs the Python package {error.name}", hint="pip install 'intermodal[registry]'"
        ) from error
    try:
        model = onnx.load(str(file))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and onnx raise what they like on bytes that are no model
        raise BadInput(f"{file.name}: is no valid ONNX model: {error}") from error
    example = _example(model, manifest)
    mlflow.onnx.save_model(
        model,
        str(folder),
        signature=_signature(model),
        input_example=example,
        pip_requirements=[_pinned(name) for name in ("numpy", "onnx", "onnxruntime")],
        save_as_external_data=False,
        metadata=dict(metadata),
    )
    written = folder / "model.onnx"
    if not written.is_file():
        raise AssertionError(f"{folder}: MLflow wrote no model.onnx")
    shutil.copyfile(file, written)  # the bytes that were measured, not those of another serialization
    (folder / CARD).write_text(card, encoding="utf-8")
    if manifest:
        (folder / BUNDLE).mkdir()
        for path in sorted(file.parent.iterdir()):
            if path.is_file() and path != file:
                shutil.copyfile(path, folder / BUNDLE / path.name)


def _signature(model: Any) -> ModelSignature:
    """Return the signature that the graph declares: dimensions without a number are free."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    initial = {item.name for item in model.graph.initializer}
    inputs, outputs = (
        Schema(
            [TensorSpec(_type(value), tuple(_shape(value)), value.name) for value in some if value.name not in initial]
        )
        for some in (model.graph.input, model.graph.output)
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


def _example(model: Any, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return one small input: ones, with the ends of a window where the bundle names them."""
    import numpy as np

    initial = {item.name for item in model.graph.initializer}
    found: dict[str, Any] = {}
    for value in model.graph.input:
        if value.name in initial:
            continue
        shape = [1 if axis == 0 else EXAMPLE_LENGTH if size == -1 else size for axis, size in enumerate(_shape(value))]
        found[value.name] = np.ones(shape, dtype=_type(value))
    window = manifest.get("window", {})
    ids = found.get("input_ids")
    if ids is not None and ids.ndim == 2 and {"cls_id", "sep_id"} <= window.keys():
        ids[:, 0], ids[:, -1] = window["cls_id"], window["sep_id"]
    return found


def _type(value: Any) -> Any:
    from onnx.helper import tensor_dtype_to_np_dtype

    return tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _shape(value: Any) -> list[int]:
    return [size.dim_value if size.HasField("dim_value") else -1 for size in value.type.tensor_type.shape.dim]


def _pinned(name: str) -> str:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name

"""What happens to an exported graph: operators fused for onnxruntime, weights and activations made 8-bit integers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from components.converter.builds import Build

_EMBEDDINGS = ("Gather", "EmbedLayerNormalization")


def fuse(source: Path, target: Path, fusion: str, config: Any) -> None:
    """Fuse `source` with onnxruntime's optimiser for transformers, by the patterns of BERT: other families keep what does not match.

    `attention` then writes each residual addition before a LayerNormalization as Sum. When onnxruntime loads a file, it takes Add and
    LayerNormalization for SkipLayerNormalization, which is slower on the CPU than the two (measured: 15 to 20 % of an INT8 run).
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    options = FusionOptions("bert")
    if fusion == "attention":
        options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = False
    model = optimizer.optimize_model(
        str(source),
        model_type="bert",
        num_heads=int(getattr(config, "num_attention_heads", 0)),
        hidden_size=int(getattr(config, "hidden_size", 0)),
        optimization_options=options,
        opt_level=0,
    )
    if fusion == "attention":
        made_by = {name: node for node in model.model.graph.node for name in node.output}
        for node in model.model.graph.node:
            before = made_by.get(node.input[0]) if node.op_type == "LayerNormalization" else None
            if before is not None and before.op_type == "Add":
                before.op_type = "Sum"
    model.save_model_to_file(str(target))


def quantise(source: Path, target: Path, build: Build) -> None:
    """Write `source` with weights of matrix products and embeddings as 8-bit integers and activations quantised on the fly.

    One scale a channel, unless the build says otherwise: on both default backbones it changes 30 to 40 % as many labels as one scale
    a matrix does.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The quantiser advises a pre-processing step that is for static quantisation.
    logging.getLogger().setLevel(logging.ERROR)
    operators = {node.op_type for node in onnx.load(str(source)).graph.node if node.domain == "com.microsoft"}
    types = ["MatMul", *(operators & {"Attention"})]  # the Attention of opset 23 has no integer form
    if build.quantisation != "int8_matmul":
        types += _EMBEDDINGS
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QUInt8 if build.quantisation == "uint8" else QuantType.QInt8,
        op_types_to_quantize=types,
        per_channel=build.quantisation != "int8_matrix",
        reduce_range=build.quantisation == "int8_reduced",
        # Shapes behind a fused operator are unknown to the quantiser, and with them the types.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )

"""Which files a conversion makes and lets compete. Standard library only, so that the host can check it before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.kfp_io import StepError

EXPORTERS = ("dynamo", "torchscript")
OPSETS = {"dynamo": range(18, 24), "torchscript": range(17, 21)}
"""What torch 2.13 writes of its own, without converting between versions."""
FUSIONS = ("none", "ort", "attention")
"""ort: onnxruntime's optimiser for transformers. attention: the same, but residual additions are kept out of SkipLayerNormalization."""
QUANTISATIONS = ("fp32", "int8", "int8_matrix", "int8_reduced", "int8_matmul", "uint8")
"""Dynamic, MatMul and embeddings, one scale a channel; but: int8_matrix one scale a matrix; int8_reduced seven bits, for processors
without VNNI; int8_matmul leaves embeddings alone; uint8 unsigned weights."""


@dataclass(frozen=True)
class Build:
    """One cell of the matrix: how the graph is written, at which opset, what is fused, how it is quantised."""

    exporter: str
    opset: int
    fusion: str
    quantisation: str

    @property
    def name(self) -> str:
        return f"{self.exporter}-{self.opset}-{self.fusion}-{self.quantisation}"

    @property
    def variant(self) -> str:
        """The variant of the bundle that this build may become: fp32 or int8."""
        return "fp32" if self.quantisation == "fp32" else "int8"

    @property
    def base(self) -> Build:
        """What it is quantised from: itself, if it is not."""
        return Build(self.exporter, self.opset, self.fusion, "fp32")

    @property
    def export(self) -> Build:
        """What it is fused from."""
        return Build(self.exporter, self.opset, "none", "fp32")


SMALL = (
    "dynamo-18-none-fp32", "dynamo-18-attention-int8", "dynamo-18-none-int8", "torchscript-18-attention-fp32",
    "torchscript-18-attention-int8",
)  # fmt: skip
"""Of INT8 the fused build comes first: it takes a sixth less processor time on both default backbones, which a busy machine does not show
in every round, as a choice against the order must."""
FULL = tuple(
    Build(exporter, opset, fusion, quantisation).name
    for exporter, opset in (("dynamo", 18), ("dynamo", 23), ("torchscript", 18))
    for fusion in FUSIONS
    for quantisation in QUANTISATIONS
)


def parse_conversion(values: Any) -> tuple[Build, ...]:
    """Return the builds of a JSON object `{"builds": "small" | "full" | [names]}`; small where it is empty. Raises StepError."""
    if not isinstance(values, Mapping):
        raise StepError(f"--conversion must be a JSON object, got {values!r}")
    if unknown := sorted(set(values) - {"builds"}):
        raise StepError(f"unknown conversion setting {unknown[0]!r}", hint="known: builds")
    given = values.get("builds", "small")
    names = {"small": SMALL, "full": FULL}.get(given) if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise StepError(f"builds of the conversion: {given!r} is neither small nor full nor a list of names")
    found = tuple(_parse(name) for name in names)
    if doubles := [build.name for build in found if found.count(build) > 1]:
        raise StepError(f"builds of the conversion: {doubles[0]} stands twice")
    if not any(build.variant == "fp32" for build in found):
        raise StepError("builds of the conversion: none is fp32, which INT8 is measured beside")
    return found


def _parse(name: str) -> Build:
    exporter, opset, fusion, quantisation, *more = [*name.split("-"), "", "", "", ""]
    for what, value, known in (
        ("exporter", exporter, EXPORTERS), ("fusion", fusion, FUSIONS), ("quantisation", quantisation, QUANTISATIONS),
    ):  # fmt: skip
        if value not in known:
            close = difflib.get_close_matches(value, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise StepError(f"build {name!r}: there is no {what} {value!r}", hint=hint)
    if not opset.isdecimal() or int(opset) not in OPSETS[exporter] or any(more):
        known_opsets = OPSETS[exporter]
        raise StepError(
            f"build {name!r}: is not EXPORTER-OPSET-FUSION-QUANTISATION",
            hint=f"{exporter} writes opsets {known_opsets[0]} to {known_opsets[-1]}",
        )
    return Build(exporter, int(opset), fusion, quantisation)

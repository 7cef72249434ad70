"""The model card of a registered model: Markdown made of the run's record, and of nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """A task that the model came from, in the order of the run."""

    path: str
    component: str
    state: str
    fingerprint: str
    image: str
    """Content digest of its image, empty if the record has none."""
    cached_from: str
    inputs: Mapping[str, Sequence[str]]
    """Name -> content digests (hex)."""
    outputs: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Facts:
    """What the record says of the model."""

    run: str
    pipeline: str
    digest: str
    """Of the champion artifact, hex."""
    file: str
    file_sha256: str
    file_bytes: int
    steps: Sequence[Step]
    data: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Data that came from outside the run: name of an argument -> content digests."""
    commit: str = ""
    dirty: bool = False
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """The bundle's own, empty for a model that is no bundle of this project."""
    benchmark: Mapping[str, Any] = field(default_factory=dict)
    """The champion's entry, and the machine."""
    decision: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    """Of the backbone."""


def model_card(name: str, facts: Facts) -> str:
    """Return the card. What the record does not say is said to be missing, never made up."""
    parts = [_head(name, facts), *_about(facts), *_scores(facts), *_benchmark(facts), *_gate(facts), *_lineage(facts)]
    return "\n\n".join(parts) + "\n"


def _head(name: str, facts: Facts) -> str:
    backbone = facts.manifest.get("backbone")
    what = f"Named-entity recognition with {_code(backbone)} in ONNX" if backbone else "A model in ONNX"
    return f"# {name}\n\n{what}, made by run {_code(facts.run)} of pipeline {_code(facts.pipeline)}."


def _about(facts: Facts) -> Iterator[str]:
    manifest = facts.manifest
    rows: list[tuple[str, Any]] = [
        ("content", f"sha256:{facts.digest}"),
        (facts.file, f"sha256:{facts.file_sha256} ({facts.file_bytes} bytes)"),
    ]
    if manifest:
        rows += [
            ("variant", manifest.get("champion")),
            ("backbone", f"{manifest.get('backbone')} {manifest.get('revision') or ''}".strip()),
            ("licence of the backbone", facts.licence or "not on record"),
            ("entity types", ", ".join(manifest.get("entity_types", ()))),
            ("data set", f"sha256:{manifest.get('dataset_sha256')}"),
        ]
    rows += [
        (f"argument {name}", ", ".join(f"sha256:{digest}" for digest in some)) for name, some in facts.data.items()
    ]
    commit = f"{facts.commit}{' with changes that are not committed' if facts.dirty else ''}"
    rows.append(("commit", commit if facts.commit else "not on record"))
    yield _table(("", ""), [(key, _code(value)) for key, value in rows])
    if hyperparameters := manifest.get("hyperparameters"):
        yield "## Hyperparameters\n\n" + _table(
            ("name", "value"), [(key, _number(hyperparameters[key])) for key in sorted(hyperparameters)]
        )


def _scores(facts: Facts) -> Iterator[str]:
    scores = facts.benchmark.get("scores") or (
        {"validation": facts.manifest["validation"]} if "validation" in facts.manifest else {}
    )
    if not scores:
        return
    rows = []
    for split, found in scores.items():
        low_high = found.get("interval")
        interval = f"[{_number(low_high[0])}, {_number(low_high[1])}]" if low_high else "not on record"
        rows.append((split, _number(found.get("macro_f1")), interval, _number(found.get("micro_f1"))))
    yield "## Scores\n\n" + _table(("split", "macro-F1", "95 % interval", "micro-F1"), rows)
    split, found = list(scores.items())[-1]
    labels = [
        (label, *(_number(values.get(key)) for key in ("precision", "recall", "f1", "support")))
        for label, values in found.get("per_label", {}).items()
    ]
    if labels:
        yield f"By label, {split}:\n\n" + _table(("label", "precision", "recall", "F1", "support"), labels)


def _benchmark(facts: Facts) -> Iterator[str]:
    if not facts.benchmark and not facts.decision:
        return
    latency = {
        key: value for key, value in facts.benchmark.get("latency_ms", {}).items() if isinstance(value, int | float)
    }
    rows = [
        (f"latency {key}" + ("" if key == "requests" else ", ms"), _number(value)) for key, value in latency.items()
    ]
    rows += [(key.replace("_", " "), _number(value)) for key, value in facts.benchmark.get("throughput", {}).items()]
    machine = facts.benchmark.get("machine", {})
    rows += [
        (key.replace("_", " "), _code(machine[key]))
        for key in ("cpu", "cores", "threads", "onnxruntime")
        if key in machine
    ]
    yield "## Benchmark\n\n" + (_table(("", ""), rows) if rows else "Not on record.")
    if why := facts.decision.get("why"):
        yield f"Chosen because: {_plain(why)}."


def _gate(facts: Facts) -> Iterator[str]:
    gate = facts.manifest.get("gate")
    if not gate:
        return
    measured = gate.get("measured", {}).get(facts.manifest.get("champion"), {})
    rows = [(key, _number(value)) for key, value in measured.items() if not isinstance(value, dict | list)]
    allowed = ", ".join(
        f"{key} {_number(value)}"
        for key, value in gate.get("allowed", {}).items()
        if not isinstance(value, dict | list)
    )
    yield (
        "## Parity with the trained model\n\n"
        + _table(("measured", "value"), rows)
        + f"\n\nAllowed: {_plain(allowed)}."
    )


def _lineage(facts: Facts) -> Iterator[str]:
    rows = [
        (
            _code(step.path),
            step.state.lower() + (f" from {_code(step.cached_from)}" if step.cached_from else ""),
            _code(step.fingerprint[:16]),
            _code(step.image.removeprefix("sha256:")[:16] or "not on record"),
        )
        for step in facts.steps
    ]
    yield "## Lineage\n\n" + (_table(("task", "state", "identity", "image"), rows) if rows else "Not on record.")


def read_benchmark(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the champion's entry of a benchmark (known by its file's hash), with the machine; empty if it has none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        chosen = manifest["variants"][manifest["champion"]]["sha256"]
        entry = next(item for item in document["candidates"] if item["bundle_sha256"] == chosen)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return {}
    return {**entry, "machine": document.get("machine", {})}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _code(value: Any) -> str:
    """Return text as it is, as Markdown code that cannot end early or break a table."""
    text = "".join(character if character.isprintable() else " " for character in str(value)).replace("|", "¦")
    return f"`{text.replace('`', 'ˋ')}`" if text else ""


def _plain(text: Any) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(str(text).split()))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _plain("–" if value is None else value)

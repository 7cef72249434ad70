"""The whole matrix as Markdown, and the figures of what was chosen as metrics."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from components.converter.builds import Build
from components.converter.choose import Row


def report(
    backbone: str,
    pytorch: float,
    rows: Sequence[Row],
    times: Mapping[Build, Sequence[float]],
    winners: Mapping[str, Build],
) -> str:
    """Return the table: a row a build, the chosen ones marked. `pytorch` is the reference's validation macro-F1."""
    lines = [
        f"# Conversion of {backbone}",
        "",
        f"PyTorch: validation macro-F1 {pytorch:.4f}. Of the builds that pass the gate the",
        "",
    ]
    lines[2] += (
        " fastest becomes the variant; times are medians of a window, taken in turns, each build in a process of its own."
    )
    lines += [
        "| build | variant | MB | logits differ by | labels kept | macro-F1 | change | ms | verdict |",
        "|" + " --- |" * 9,
    ]
    for row in rows:
        measured = row.measured
        parity = ["", "", "", ""]
        if measured:
            parity = [
                f"{measured.logits:.2g}", f"{measured.agreement:.2%}", f"{measured.macro_f1:.4f}", f"{measured.change:+.4f}",
            ]  # fmt: skip
        size = f"{row.bytes / 1e6:.1f}" if row.bytes else ""
        time = f"{statistics.median(times[row.build]):.2f}" if times.get(row.build) else ""
        verdict = f"left out: {row.left_out}" if row.left_out else "passed"
        if row.build in winners.values():
            verdict = "**chosen**"
        cells = [row.build.name, row.build.variant, size, *parity, time, verdict.replace("|", "\\|")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def metrics(rows: Sequence[Row], winners: Mapping[str, Build]) -> dict[str, float]:
    """Return what is known of each variant's build: the chosen one, or the first that was measured if none passed."""
    found: dict[str, float] = {}
    for variant in ("fp32", "int8"):
        of_variant = [row for row in rows if row.build.variant == variant and row.measured]
        shown = next(
            (row for row in of_variant if row.build == winners.get(variant)), of_variant[0] if of_variant else None
        )
        if shown and shown.measured:
            found |= {f"{variant}_{key}": value for key, value in shown.measured.as_json().items()}
            if shown.build == winners.get(variant):
                found[f"{variant}_bytes"] = shown.bytes
    return found

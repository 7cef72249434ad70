"""The final table, as Markdown and as one HTML page that loads nothing."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from components.selector.rule import Candidate, Choice, Rule

_HEADER = (
    "backbone", "variant", "hyperparameters", "test macro-F1 (95 %)", "validation", "MB", "p50 ms", "p95 ms", "documents/s",
)  # fmt: skip
_SHORT = {"learning_rate": "lr", "batch_size": "batch", "weight_decay": "decay", "gradient_accumulation": "accumulate"}

_USUAL = {"gradient_accumulation": 1, "max_grad_norm": 1.0, "warmup_ratio": 0.1}


def summary(choice: Choice, rule: Rule) -> str:
    """Return the summary as Markdown."""
    lines = ["# Result", "", "| " + " | ".join(_HEADER) + " |", "|" + " --- |" * len(_HEADER)]
    lines += ["| " + " | ".join(_row(candidate, choice)) + " |" for candidate in choice.candidates]
    lines += ["", f"**Champion: {choice.champion.name}**: {choice.why}.", ""]
    lines += [f"- {candidate.name}: {reason}." for candidate, reason in choice.lost]
    return "\n".join([*lines, "", _small_print(rule), ""])


def page(choice: Choice, rule: Rule) -> str:
    """Return the summary as HTML."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Result</title>',
        '<meta name="viewport" content="width=device-width"><style>',
        ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}",
        "table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;border-bottom:1px solid #8886;text-align:left}",
        ".champion{font-weight:600;background:#3a82}</style><h1>Result</h1><table><tr>",
        *(f"<th>{html.escape(cell)}</th>" for cell in _HEADER),
        "</tr>",
    ]
    for candidate in choice.candidates:
        mark = ' class="champion"' if candidate is choice.champion else ""
        parts.append(
            f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _row(candidate, choice)) + "</tr>"
        )
    parts.append(f"</table><p><b>Champion: {html.escape(choice.champion.name)}</b>: {html.escape(choice.why)}.</p><ul>")
    parts += [f"<li>{html.escape(candidate.name)}: {html.escape(reason)}.</li>" for candidate, reason in choice.lost]
    parts.append(f"</ul><p>{html.escape(_small_print(rule))}</p></html>")
    return "\n".join(parts)


def _row(candidate: Candidate, choice: Choice) -> list[str]:
    low, high = candidate.test_interval
    return [
        ("★ " if candidate is choice.champion else "") + candidate.backbone,
        candidate.variant,
        _hyperparameters(candidate.hyperparameters),
        f"{candidate.test_macro_f1:.4f} [{low:.3f}, {high:.3f}]",
        f"{candidate.validation_macro_f1:.4f}",
        f"{candidate.bytes / 1e6:.1f}",
        _milliseconds(candidate.latency_ms.get("p50")),
        _milliseconds(candidate.latency_ms.get("p95")),
        f"{candidate.throughput['documents_per_second']:.1f}",
    ]


def _milliseconds(value: float | None) -> str:
    return "too few" if value is None else f"{value:.1f}"


def _hyperparameters(values: Mapping[str, Any]) -> str:
    """Return the hyperparameters in short, without those that are nearly always left at their default."""
    shown = {name: value for name, value in sorted(values.items()) if _USUAL.get(name) != value}
    return " ".join(f"{_SHORT.get(name, name)}={value:.3g}" for name, value in shown.items())


def _small_print(rule: Rule) -> str:
    budget = f" and within {rule.latency_budget_ms:g} ms" if rule.latency_budget_ms else ""
    return (
        f"Rule: the fastest at {rule.percentile} within {rule.tolerance:g} of the best validation macro-F1{budget}. Test scores are "
        "shown with their bootstrap interval and decided nothing. Latency is one document at a time, from text to entities."
    )

"""The final table, as Markdown and as one HTML page that loads nothing, and the decision as a record."""

from __future__ import annotations

import html
from typing import Any

from components.selector.candidates import Candidate
from components.selector.evidence import CONFIDENCE, SAMPLES, SEED, Evidence, firmness
from components.selector.picture import picture
from components.selector.rule import Choice, Rule

_HEADER = (
    "backbone", "variant", "hyperparameters", "test macro-F1 (95 %)", "validation", "less champion (95 %)", "chosen in",
    "MB", "p50 ms", "p95 ms", "documents/s",
)  # fmt: skip
_SHORT = {"learning_rate": "lr", "batch_size": "batch", "weight_decay": "decay", "gradient_accumulation": "accumulate"}

_SHARED = (
    "gradient_accumulation", "head_rate", "layer_decay", "layers", "max_grad_norm", "warmup_ratio", "word_dropout",
)  # fmt: skip
"""Hyperparameters that are settings of the training, too: shown where the candidates differ in them."""

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #8886; text-align: left }
tr.champion { font-weight: 600; background: #3a82 }
.pareto { max-width: 52rem; width: 100%; font-size: 12px; fill: currentColor }
.pareto path { fill: none; stroke: currentColor }
.pareto path.grid { stroke-opacity: .12 }
.pareto path.rule { stroke: #c60; stroke-dasharray: 5 4 }
.pareto path.bar { stroke-opacity: .5 }
.pareto path.front { stroke: #36c }
.pareto .note { fill: #c60 }
.pareto g.front circle { fill: #36c }
.pareto g.champion circle { fill: #2a7 }
.pareto g.other { opacity: .65 }
"""


def summary(choice: Choice, rule: Rule, evidence: Evidence) -> str:
    """Return the summary as Markdown."""
    lines = ["# Result", "", "| " + " | ".join(_HEADER) + " |", "|" + " --- |" * len(_HEADER)]
    lines += ["| " + " | ".join(_row(candidate, choice, evidence)) + " |" for candidate in choice.candidates]
    lines += ["", f"**Champion: {choice.champion.name}**: {choice.why}. {firmness(choice, evidence)}", ""]
    lines += [f"- {candidate.name}: {reason}." for candidate, reason in choice.lost]
    return "\n".join([*lines, "", _small_print(rule), ""])


def page(choice: Choice, rule: Rule, evidence: Evidence) -> str:
    """Return the summary as HTML, with the picture."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Result</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>Result</h1>',
        f"<p><b>Champion: {html.escape(choice.champion.name)}</b>: {html.escape(choice.why)}. "
        f"{html.escape(firmness(choice, evidence))}</p>",
        picture(choice, evidence, rule),
        '<div class="wide"><table><tr>',
        *(f"<th>{html.escape(cell)}</th>" for cell in _HEADER),
        "</tr>",
    ]
    for candidate in choice.candidates:
        mark = ' class="champion"' if candidate is choice.champion else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _row(candidate, choice, evidence))
        parts.append(f"<tr{mark}>{cells}</tr>")
    parts.append("</table></div><ul>")
    parts += [f"<li>{html.escape(candidate.name)}: {html.escape(reason)}.</li>" for candidate, reason in choice.lost]
    parts.append(f"</ul><p>{html.escape(_small_print(rule))}</p></html>")
    return "\n".join(parts)


def record(choice: Choice, rule: Rule, evidence: Evidence) -> dict[str, Any]:
    """Return the decision, and all that it was made of, as JSON takes it."""
    champion = choice.champion
    return {
        "champion": {"backbone": champion.backbone, "variant": champion.variant},
        "why": choice.why,
        "lost": {candidate.name: reason for candidate, reason in choice.lost},
        "tolerance": rule.tolerance,
        "latency_budget_ms": rule.latency_budget_ms,
        "percentile": rule.percentile,
        "best_validation_macro_f1": choice.best,
        "times_inconclusive": list(evidence.noise),
        "pareto_front": [candidate.name for candidate in choice.front],
        "bootstrap": {
            "paired_over": "validation documents",
            "documents": evidence.documents,
            "samples": SAMPLES,
            "seed": SEED,
            "confidence": CONFIDENCE,
        },
        "candidates": [_recorded(candidate, choice, rule, evidence) for candidate in choice.candidates],
    }


def _recorded(candidate: Candidate, choice: Choice, rule: Rule, evidence: Evidence) -> dict[str, Any]:
    difference = evidence.differences.get(candidate.name)
    return {
        "name": candidate.name,
        "latency_ms": rule.latency(candidate),
        "within_budget": rule.fits(candidate),
        "within_tolerance": rule.accurate(candidate.validation_macro_f1, choice.best),
        "validation_macro_f1": candidate.validation_macro_f1,
        "interval": list(evidence.intervals[candidate.name]),
        "chosen_in": evidence.chosen[candidate.name],
        "difference_from_champion": difference
        and {"value": difference.value, "interval": [difference.low, difference.high], "verdict": difference.verdict},
    }


def _row(candidate: Candidate, choice: Choice, evidence: Evidence) -> list[str]:
    low, high = candidate.test_interval
    difference = evidence.differences.get(candidate.name)
    return [
        ("★ " if candidate is choice.champion else "") + candidate.backbone,
        candidate.variant,
        _hyperparameters(candidate, choice),
        f"{candidate.test_macro_f1:.4f} [{low:.3f}, {high:.3f}]",
        f"{candidate.validation_macro_f1:.4f}",
        f"{difference.value:+.4f} [{difference.low:+.3f}, {difference.high:+.3f}] {difference.verdict}"
        if difference
        else "",
        f"{evidence.chosen[candidate.name]:.0%}",
        f"{candidate.bytes / 1e6:.1f}",
        _milliseconds(candidate.latency_ms.get("p50")),
        _milliseconds(candidate.latency_ms.get("p95")),
        f"{candidate.throughput['documents_per_second']:.1f}",
    ]


def _milliseconds(value: float | None) -> str:
    return "too few" if value is None else f"{value:.1f}"


def _hyperparameters(candidate: Candidate, choice: Choice) -> str:
    """Return the hyperparameters in short."""
    values = candidate.hyperparameters
    same = {
        name
        for name in _SHARED
        if all(other.hyperparameters.get(name) == values.get(name) for other in choice.candidates)
    }
    shown = {name: value for name, value in sorted(values.items()) if name not in same}
    return " ".join(f"{_SHORT.get(name, name)}={value:.3g}" for name, value in shown.items())


def _small_print(rule: Rule) -> str:
    budget = f" of those within {rule.latency_budget_ms:g} ms" if rule.latency_budget_ms else ""
    return (
        f"Rule: the fastest at {rule.percentile} within {rule.tolerance:g} of the best validation macro-F1{budget}. Test scores are "
        "shown with their bootstrap interval and decided nothing, as did the paired bootstrap over validation documents: it says how "
        "firm the choice is. Latency is one document at a time, from text to entities."
    )

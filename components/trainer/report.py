"""The error analysis as one HTML page that loads nothing."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise

from components.ner.formats import Span
from components.ner.metrics import Scores
from components.trainer.analysis import EXAMPLES, KINDS, NOTHING, Analysis, Error, Share

_CONTEXT = 60
"""Characters shown on either side of an error."""
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #8886; text-align: right }
th:first-child, td:first-child { text-align: left }
td.hit { background: #3a83 } td.miss { background: #c603 } .bar { background: #36c8; display: inline-block; height: .6em }
.example { margin: .4rem 0; white-space: pre-wrap } .example small { opacity: .7 }
mark { color: inherit }
mark.gold { background: #3a86 } mark.said { background: #c606 } mark.both { background: #cc06 }
"""


def error_page(title: str, scores: Scores, analysis: Analysis, *, learned: bool) -> str:
    """Return the page. `learned` says that the documents were learned from, so the errors are those that even so remain."""
    what = "documents that the model has learned from" if learned else "validation documents"
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}: errors</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>',
        f"<h1>{html.escape(title)}: errors on {what}</h1>",
        f"<p>Strict span macro-F1 {scores.macro_f1:.4f}, micro-F1 {scores.micro_f1:.4f} "
        f"(precision {scores.micro_precision:.4f}, recall {scores.micro_recall:.4f}).</p>",
        "<h2>By label</h2>",
        _table(("label", "precision", "recall", "F1", "entities"), _label_rows(scores)),
        "<h2>Confusion</h2><p>Rows are true entities, columns what was said of them; a wrong boundary counts for its label.</p>",
        _confusion(analysis),
        "<h2>By length</h2>",
        _shares(analysis.by_length),
        "<h2>By whether training had the entity</h2>",
        "<p>Seen: the same words with the same label; words known: with another label only. Case does not matter.</p>",
        _shares(analysis.by_seen),
        "<h2>Kinds of errors</h2>",
        _table(("kind", "errors"), [(kind, str(analysis.kinds[kind])) for kind in KINDS]),
        _legend(),
    ]
    for kind in KINDS:
        if examples := analysis.examples.get(kind):
            more = f", the first {EXAMPLES}" if analysis.kinds[kind] > len(examples) else ""
            parts.append(f"<h3>{kind} ({analysis.kinds[kind]}{more})</h3>")
            parts += [_example(error) for error in examples]
    return "\n".join([*parts, "</html>"]) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _label_rows(scores: Scores) -> list[tuple[str, ...]]:
    return [
        (label, f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}", f"{row['support']:.0f}")
        for label, row in sorted(scores.per_label.items())
    ]


def _confusion(analysis: Analysis) -> str:
    columns = [*analysis.entity_types, NOTHING]
    lines = [
        "<table><tr><th></th>" + "".join(f"<th>{html.escape(name) or 'missed'}</th>" for name in columns) + "</tr>"
    ]
    for gold in columns:
        cells = []
        for said in columns:
            count = analysis.confusion[gold][said]
            mark = "" if not count else ' class="hit"' if gold == said else ' class="miss"'
            cells.append(f"<td{mark}>{count or ''}</td>")
        lines.append(f"<tr><td>{html.escape(gold) or 'invented'}</td>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


def _shares(shares: Mapping[str, Share]) -> str:
    lines = ["<table><tr><th></th><th>entities</th><th>found</th><th>recall</th><th></th></tr>"]
    for name, share in shares.items():
        recall = "" if share.recall is None else f"{share.recall:.3f}"
        bar = f'<span class="bar" style="width:{8 * (share.recall or 0):.2f}em"></span>'
        lines.append(
            f"<tr><td>{html.escape(name)}</td><td>{share.all}</td><td>{share.right}</td><td>{recall}</td>"
            f'<td style="text-align:left">{bar}</td></tr>'
        )
    return "\n".join([*lines, "</table>"])


def _legend() -> str:
    return (
        '<p><mark class="gold">true</mark> <mark class="said">said</mark> <mark class="both">both</mark>; white space is shown as it is, '
        f"{_CONTEXT} characters on either side.</p>"
    )


def _example(error: Error) -> str:
    """Return the place of an error, with what is true and what was said marked character by character."""
    spans = [span for span in (error.gold, error.said) if span is not None]
    text = error.document.text
    first = max(0, min(span.start for span in spans) - _CONTEXT)
    last = min(len(text), max(span.end for span in spans) + _CONTEXT)
    cuts = sorted({first, last, *(place for span in spans for place in (span.start, span.end))})
    parts = []
    for start, end in pairwise(cuts):
        inside = [_within(error.gold, start), _within(error.said, start)]
        mark = {(True, True): "both", (True, False): "gold", (False, True): "said"}.get((inside[0], inside[1]))
        piece = html.escape(text[start:end])
        parts.append(f'<mark class="{mark}">{piece}</mark>' if mark else piece)
    true, said = (html.escape(span.label) if span else "nothing" for span in (error.gold, error.said))
    return (
        f'<div class="example">{"…" if first else ""}{"".join(parts)}{"…" if last < len(text) else ""} '
        f"<small>{html.escape(error.document.id)}: true {true}, said {said}</small></div>"
    )


def _within(span: Span | None, place: int) -> bool:
    return span is not None and span.start <= place < span.end

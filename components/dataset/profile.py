"""A profile of a dataset, as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any


def markdown(manifest: Mapping[str, Any]) -> str:
    """Return the profile as Markdown tables."""
    lines = ["# Dataset", "", f"Content `{manifest['content_sha256'][:16]}`, from {manifest['source']}.", ""]
    for header, rows in _tables(manifest):
        lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes(manifest)), ""])


def page(manifest: Mapping[str, Any]) -> str:
    """Return the profile as an HTML page that loads nothing."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Dataset</title>',
        '<meta name="viewport" content="width=device-width"><style>',
        ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}",
        "table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .7rem;border-bottom:1px solid #8886;text-align:right}",
        "th:first-child,td:first-child{text-align:left}</style><h1>Dataset</h1>",
        f"<p>Content <code>{_escape(manifest['content_sha256'][:16])}</code>, from {_escape(manifest['source'])}.</p>",
    ]
    for header, rows in _tables(manifest):
        parts.append("<table><tr>" + "".join(f"<th>{_escape(cell)}</th>" for cell in header) + "</tr>")
        parts += ["<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
        parts.append("</table>")
    parts.append("<ul>" + "".join(f"<li>{_escape(note)}</li>" for note in notes(manifest)) + "</ul></html>")
    return "\n".join(parts)


def _escape(value: object) -> str:
    return html.escape(str(value))


def _tables(manifest: Mapping[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    splits: Mapping[str, Mapping[str, Any]] = manifest["splits"]
    overview = [
        [name, str(s["documents"]), str(s["characters"]), str(s["entities"]), *_lengths(s["document_lengths"])]
        for name, s in splits.items()
    ]
    labels = [
        [label, *(str(split["per_label"].get(label, 0)) for split in splits.values())]
        for label in manifest["entity_types"]
    ]
    return [
        (["split", "documents", "characters", "entities", "shortest", "median", "95 %", "longest"], overview),
        (["label", *splits], labels),
    ]


def _lengths(lengths: Mapping[str, int]) -> Sequence[str]:
    return [str(lengths[key]) for key in ("min", "median", "p95", "max")]


def notes(manifest: Mapping[str, Any]) -> list[str]:
    """Return where each split comes from, and what was dropped, resolved or ignored."""
    found = [f"{name}: {split['origin']}" for name, split in manifest["splits"].items()]
    if manifest["resolved_overlaps"]:
        found.append(f"{manifest['resolved_overlaps']} overlapping entities gave way to longer ones")
    if manifest["dropped_duplicates"]:
        found.append(
            f"{manifest['dropped_duplicates']} documents that stand in two splits were dropped from the training side"
        )
    if manifest["ignored_files"]:
        found.append(f"files ignored: {', '.join(manifest['ignored_files'])}")
    return found

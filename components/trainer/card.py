"""The model card, as Markdown: what the model is, what it learned from, how good it is and where it is weak."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from components.trainer.analysis import Analysis


def model_card(
    facts: Mapping[str, Any], backbone: Mapping[str, Any], counts: Mapping[str, int], analysis: Analysis
) -> str:
    """Return the model card: what the model is, what it learned from, how good it is and where it is weak.

    `facts` is ner.json, `backbone` its backbone.json, `counts` the documents of each split that was read.
    """
    scores = facts["scores"]["validation"]
    learned = bool(scores.get("learned_from"))
    on = "documents that it has learned from (so they say little)" if learned else "the validation documents"
    lines = [
        f"# Model card: {facts['backbone']['name']} for named entities",
        "",
        f"Finds {', '.join(facts['entity_types'])} in text: character spans with labels. A token classifier on "
        f"`{facts['backbone']['name']}` (revision `{facts['backbone']['revision']}`, licence "
        f"{backbone.get('license') or 'not known'}); documents of any length, read in windows of {facts['window']['max_tokens']} tokens "
        f"that share {facts['window']['stride']}; labels decoded by Viterbi over the rule of BIO.",
        "",
        "## Training",
        "",
        f"- Data: {counts['train']} training and {counts['validation']} validation documents, content `{facts['dataset_sha256'][:16]}`"
        + (", all of them learned from." if learned else "; the epoch was chosen on the latter."),
        f"- Hyperparameters: `{json.dumps(facts['hyperparameters'], sort_keys=True)}`",
        f"- Settings: `{json.dumps(facts['training'], sort_keys=True)}`",
        f"- Seed {facts['seed']}; weights of epoch {facts['best_epoch']}.",
        *([f"- Began with the weights `{facts['warm_start_sha256'][:16]}`."] if "warm_start_sha256" in facts else []),
        "",
        f"## Scores on {on}",
        "",
        f"Strict span macro-F1 **{scores['macro_f1']:.4f}**, micro-F1 {scores['micro_f1']:.4f}: start, end and label must all be right.",
        "",
        "| label | precision | recall | F1 | entities |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {_cell(label)} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']:.0f} |"
        for label, row in sorted(scores["per_label"].items())
    ]
    lines += ["", "## Where it is weak", ""]
    lines += _weak(scores["per_label"], analysis)
    return "\n".join([*lines, ""])


def _weak(per_label: Mapping[str, Mapping[str, float]], analysis: Analysis) -> list[str]:
    found = []
    if per_label:
        label, row = min(per_label.items(), key=lambda item: (item[1]["f1"], item[0]))
        found.append(f"- Weakest label: {_cell(label)}, F1 {row['f1']:.3f} of {row['support']:.0f} entities.")
    unseen, seen = analysis.by_seen["unseen"], analysis.by_seen["seen"]
    if unseen.recall is not None and seen.recall is not None:
        found.append(
            f"- Entities that training never had: {unseen.recall:.1%} of {unseen.all} are found; of those it had, {seen.recall:.1%} of "
            f"{seen.all}."
        )
    lengths = {name: share for name, share in analysis.by_length.items() if share.recall is not None}
    if lengths:
        name, share = min(lengths.items(), key=lambda item: item[1].recall or 0.0)
        found.append(f"- By length, entities of {name} are found least: {share.recall:.1%} of {share.all}.")
    if analysis.kinds:
        kind, count = max(analysis.kinds.items(), key=lambda item: (item[1], item[0]))
        found.append(f"- Most frequent error: {kind} ({count} of {sum(analysis.kinds.values())}).")
    return found or ["- Nothing is wrong on these documents, which are then too few or too easy to tell."]


def _cell(text: str) -> str:
    """Return `text` for a cell of a Markdown table: a label may hold anything."""
    return html.escape(text).replace("|", "\\|").replace("\n", " ")

"""Span scores against seqeval on random sequences, and the interval."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from components.ner.formats import Span
from components.ner.metrics import bootstrap_interval, span_scores

TYPES = ["LOC", "ORG", "PER"]


@st.composite
def tags(draw: st.DrawFn, length: int) -> list[str]:
    """A legal IOB2 sequence."""
    found, previous = [], "O"
    for _ in range(length):
        choices = ["O", *(f"B-{kind}" for kind in TYPES)]
        if previous != "O":
            choices.append(f"I-{previous[2:]}")
        previous = draw(st.sampled_from(choices))
        found.append(previous)
    return found


def spans(sequence: list[str]) -> list[Span]:
    found: list[Span] = []
    for position, tag in enumerate(sequence):
        if tag.startswith("B-"):
            found.append(Span(position, position + 1, tag[2:]))
        elif tag.startswith("I-"):
            found[-1] = found[-1]._replace(end=position + 1)
    return found


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    return [draw(tags(n)) for n in lengths], [draw(tags(n)) for n in lengths]


@settings(max_examples=200, deadline=None)
@given(corpora())
def test_scores_equal_seqeval_strict(corpus: tuple[list[list[str]], list[list[str]]]):
    gold, predicted = corpus
    ours = span_scores([spans(s) for s in gold], [spans(s) for s in predicted], TYPES)
    if not any(spans(s) for s in [*gold, *predicted]):
        assert ours.macro_f1 == ours.micro_f1 == 0 and ours.per_label == {}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    labels = {key: value for key, value in report.items() if key in TYPES}
    assert ours.per_label.keys() == labels.keys()
    for label, values in labels.items():
        for key in ("precision", "recall"):
            assert np.isclose(ours.per_label[label][key], values[key])
        assert np.isclose(ours.per_label[label]["f1"], values["f1-score"])
    assert np.isclose(ours.macro_f1, report["macro avg"]["f1-score"])
    assert np.isclose(ours.micro_f1, report["micro avg"]["f1-score"])


def test_a_label_only_predicted_counts_as_zero_and_an_absent_one_not_at_all():
    gold = [[Span(0, 1, "PER")]]
    assert span_scores(gold, [[Span(0, 1, "PER")]], TYPES).macro_f1 == 1
    assert span_scores(gold, [[Span(0, 1, "PER"), Span(2, 3, "LOC")]], TYPES).macro_f1 == 0.5


def test_a_span_cut_short_is_wrong():
    gold = [[Span(0, 2, "PER"), Span(3, 4, "LOC")]]
    assert span_scores(gold, [[Span(0, 1, "PER"), Span(3, 4, "LOC")]], TYPES).macro_f1 == 0.5


def test_the_interval_holds_the_score_and_shrinks_with_more_documents():
    random = np.random.default_rng(3)

    def corpus(count: int) -> tuple[list[list[Span]], list[list[Span]]]:
        gold = [[Span(0, 1, TYPES[i % 3])] for i in range(count)]
        return gold, [document if random.random() < 0.7 else [] for document in gold]

    widths = []
    for count in (30, 600):
        gold, predicted = corpus(count)
        low, high = bootstrap_interval(gold, predicted, TYPES)
        assert low < span_scores(gold, predicted, TYPES).macro_f1 < high
        assert (low, high) == bootstrap_interval(gold, predicted, TYPES)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_perfect_predictions_have_no_spread():
    gold = [[Span(0, 1, "PER")]] * 5
    assert bootstrap_interval(gold, gold, TYPES) == (1.0, 1.0)

"""Spans to labels and back, windows, and the tagger over them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from components.ner.formats import Span
from components.ner.labels import IGNORE, bio_labels, decode_bio, decode_logits, token_labels
from components.ner.predict import Tagger, WindowSettings
from components.ner.windows import merge_logits, windows

LABELS = bio_labels(["B", "A"])
IDS = {label: index for index, label in enumerate(LABELS)}


def test_labels_are_sorted_and_start_with_o():
    assert LABELS == ["O", "B-A", "I-A", "B-B", "I-B"]


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["A", "B", ""])), max_size=12))
def test_spans_of_whole_words_survive_the_round_trip(words: list[tuple[int, str]]):
    text, offsets, spans = "", [], []
    for count, kind in words:
        start = len(text)
        for _ in range(count):
            offsets.append((len(text), len(text) + 1))
            text += "w "
        if kind:
            spans.append(Span(start, len(text) - 1, kind))
    assert decode_bio(token_labels(offsets, spans, IDS), offsets, LABELS, text) == spans


def test_leading_spaces_in_offsets_and_tokens_without_characters():
    text = "hi Bob Ray"
    offsets = [(0, 0), (0, 2), (2, 6), (6, 10), (0, 0)]
    labels = token_labels(offsets, [Span(3, 10, "A")], IDS)
    assert labels == [IGNORE, IDS["O"], IDS["B-A"], IDS["I-A"], IGNORE]
    assert decode_bio(labels, offsets, LABELS, text) == [Span(3, 10, "A")]


@given(st.lists(st.lists(st.floats(-4, 4, width=32), min_size=5, max_size=5), min_size=1, max_size=4))
def test_decoding_gives_the_best_legal_sequence(rows: list[list[float]]):
    logits = np.array(rows, dtype=np.float32)

    def score(path: tuple[int, ...]) -> float:
        return float(sum(logits[i, label] for i, label in enumerate(path)))

    paths = [path for path in itertools.product(range(5), repeat=len(rows)) if is_legal(path)]
    found = tuple(decode_logits(logits, LABELS))
    assert is_legal(found)
    assert score(found) == pytest.approx(max(map(score, paths)), abs=1e-4)


@given(
    st.lists(st.lists(st.floats(-4, 4, width=32), min_size=5, max_size=5), min_size=1, max_size=4),
    st.lists(st.lists(st.floats(-4, 4, width=32), min_size=5, max_size=5), min_size=5, max_size=5),
)
def test_decoding_with_transitions_gives_the_best_legal_sequence(rows: list[list[float]], scores: list[list[float]]):
    logits, transitions = np.array(rows, dtype=np.float32), np.array(scores, dtype=np.float32)

    def score(path: tuple[int, ...]) -> float:
        steps = sum(transitions[before, after] for before, after in itertools.pairwise(path))
        return float(sum(logits[i, label] for i, label in enumerate(path)) + steps)

    paths = [path for path in itertools.product(range(5), repeat=len(rows)) if is_legal(path)]
    found = tuple(decode_logits(logits, LABELS, transitions))
    assert is_legal(found)
    assert score(found) == pytest.approx(max(map(score, paths)), abs=1e-4)


@pytest.mark.parametrize("kind", ["small", "large", "with ties"])
@pytest.mark.parametrize("learned", [False, True], ids=["BIO", "field"])
def test_decoding_gives_label_for_label_what_plain_loops_give(kind: str, learned: bool):
    labels = bio_labels([f"T{number}" for number in range(14)])
    random = np.random.default_rng(7)

    def draw(*shape: int) -> np.ndarray:
        scores = random.normal(size=shape, scale=2).astype(np.float32)
        return {"small": scores, "large": scores + 30_000, "with ties": scores.round()}[kind]

    for count in (1, 2, 3, 40, 275):
        logits, transitions = draw(count, len(labels)), draw(len(labels), len(labels)) if learned else None
        assert decode_logits(logits, labels, transitions) == plain(logits, labels, transitions)


def plain(logits: np.ndarray, labels: list[str], transitions: np.ndarray | None) -> list[int]:
    """Viterbi as it is written down; of equals the first label wins, and the last token is asked first."""

    def step(before: int, after: int) -> float:
        if labels[after].startswith("I-") and labels[before][1:] != labels[after][1:]:
            return -np.inf
        return 0.0 if transitions is None else float(transitions[before, after])

    every = range(len(labels))
    best = [[-np.inf if labels[label].startswith("I-") else float(logits[0, label]) for label in every]]
    for row in logits[1:].astype(np.float64):
        best.append([max(best[-1][before] + step(before, after) for before in every) + row[after] for after in every])
    path = [max(every, key=best[-1].__getitem__)]
    for scores in reversed(best[:-1]):
        path.append(max(every, key=lambda before: scores[before] + step(before, path[-1])))
    return path[::-1]


def is_legal(path: tuple[int, ...]) -> bool:
    names = ["O", *(LABELS[i] for i in path)]
    return all(not b.startswith("I-") or a[1:] == b[1:] for a, b in itertools.pairwise(names))


@given(st.integers(0, 200), st.integers(1, 40), st.data())
def test_windows_cover_everything_and_share_the_stride(count: int, size: int, data: st.DataObject):
    stride = data.draw(st.integers(0, size - 1))
    found = windows(count, size, stride)
    assert sorted(set(itertools.chain.from_iterable(range(a, b) for a, b in found))) == list(range(count))
    assert all(b - a <= size for a, b in found)
    assert all(first[1] - second[0] == stride for first, second in itertools.pairwise(found))


def test_a_stride_as_wide_as_the_window_is_refused():
    with pytest.raises(ValueError, match="cannot share"):
        windows(10, 4, 4)


def test_each_token_takes_the_window_with_most_context():
    cuts = windows(10, 6, 3)
    assert cuts == [(0, 6), (3, 9), (6, 10)]
    merged = merge_logits(10, cuts, [np.full((b - a, 1), i, dtype=np.float32) for i, (a, b) in enumerate(cuts)])
    assert merged[:, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "bob": 4, "x": 5}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@given(st.lists(st.sampled_from(["bob", "x"]), max_size=60))
def test_the_tagger_finds_every_entity_of_a_document_longer_than_a_window(words: list[str]):
    """A perfect model is one that looks at the token alone; windows and merging must then change nothing."""
    seen: list[int] = []

    def infer(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        seen.append(ids.shape[1])
        assert (mask[:, 0] == 1).all() and (ids[:, 0] == 1).all()
        logits = np.zeros((*ids.shape, 3), dtype=np.float32)
        logits[..., 0] = 1
        logits[ids == 4, 1] = 5
        return logits

    tagger = Tagger(make_tokenizer(), ["O", "B-N", "I-N"], WindowSettings(8, 2, 1, 2, 3), infer)
    text = " ".join(words)
    expected = [Span(i, i + 3, "N") for i in range(len(text)) if text.startswith("bob", i)]
    assert tagger.tag(text) == expected
    assert all(width <= 8 for width in seen)

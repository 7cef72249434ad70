"""The error analysis as counts that must add up, and the pages made of it."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from components.ner.formats import Document, Span
from components.ner.metrics import span_scores
from components.trainer.analysis import NOTHING, Share, analyse, pair
from components.trainer.card import model_card
from components.trainer.report import error_page

TEXT = "Ada Byron met Alan at Blue Heron Ltd in Paris, then Bob <b>left</b>."


def place(words: str, label: str) -> Span:
    start = TEXT.index(words)
    return Span(start, start + len(words), label)


GOLD = (
    place("Ada Byron", "PER"), place("Alan", "PER"), place("Blue Heron Ltd", "ORG"), place("Paris", "LOC"), place("Bob", "PER"),
)  # fmt: skip
SAID = (
    place("Ada Byron", "PER"), place("Alan", "ORG"), place("Blue Heron", "ORG"), place("in Paris", "PER"), place("<b>", "LOC"),
)  # fmt: skip
TRAINING = [
    Document("t1", "ada  BYRON and Paris", (Span(0, 10, "PER"), Span(15, 20, "PER"))),
    Document("t2", "Alan", (Span(0, 4, "PER"),)),
]


def example() -> tuple[list[Document], list[tuple[Span, ...]]]:
    return [Document("v<1>", TEXT, GOLD)], [SAID]


def test_each_kind_of_error_is_told_apart():
    documents, said = example()
    found = analyse(documents, said, TRAINING, ["PER", "ORG", "LOC"])
    assert found.kinds == {
        "wrong label": 1, "wrong boundary": 1, "wrong label and boundary": 1, "missed": 1, "invented": 1,
    }  # fmt: skip
    assert found.confusion["PER"] == {"PER": 1, "ORG": 1, NOTHING: 1}
    assert found.confusion["ORG"] == {"ORG": 1}
    assert found.confusion["LOC"] == {"PER": 1}
    assert found.confusion[NOTHING] == {"LOC": 1}
    assert found.by_length == {
        "1 word": Share(0, 3), "2 words": Share(1, 1), "3 words": Share(0, 1), "4 or more": Share(0, 0),
    }  # fmt: skip
    # Ada Byron (in another spelling) and Alan were learned as they are, Paris as a person, Blue Heron Ltd and Bob not at all.
    assert found.by_seen == {"seen": Share(1, 2), "words known": Share(0, 1), "unseen": Share(0, 2)}


cuts = st.lists(st.integers(0, 30), min_size=2, max_size=12, unique=True).map(sorted)
labels = st.lists(st.sampled_from(["A", "B"]), min_size=6, max_size=6)
disjoint = st.tuples(cuts, labels).map(
    lambda drawn: [Span(start, end, kind) for start, end, kind in zip(drawn[0][::2], drawn[0][1::2], drawn[1], strict=False)]
)  # fmt: skip


@given(disjoint, disjoint)
def test_every_span_counts_once_and_exact_matches_come_first(gold, said):
    pairs = pair(gold, said)
    assert sorted(one for one, _ in pairs if one) == sorted(gold)
    assert sorted(other for _, other in pairs if other) == sorted(said)
    assert {one for one, other in pairs if one and one == other} == set(gold) & set(said)
    assert all(one.start < other.end and other.start < one.end for one, other in pairs if one and other)
    found = analyse([Document("d", "x" * 31, tuple(gold))], [said], [], ["A", "B"])
    scores = span_scores([gold], [said], ["A", "B"])
    right = sum(share.right for share in found.by_seen.values())
    assert right == sum(round(row["recall"] * row["support"]) for row in scores.per_label.values())
    assert sum(share.all for share in found.by_length.values()) == len(gold)
    assert sum(sum(row.values()) for row in found.confusion.values()) == right + sum(found.kinds.values())


class Page(HTMLParser):
    """The tags of a page, and the text inside of `mark`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.marked: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = str(dict(attrs).get("class")) if tag == "mark" else ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.marked.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def test_the_page_marks_what_is_true_and_what_was_said_and_runs_nothing_of_the_documents():
    documents, said = example()
    analysis = analyse(documents, said, TRAINING, ["PER", "ORG", "LOC"])
    scores = span_scores([GOLD], [SAID], ["PER", "ORG", "LOC"])
    text = error_page("<i>mine</i>", scores, analysis, learned=False)
    page = Page(text)
    assert "b" not in page.tags and "i" not in page.tags and "script" not in page.tags
    for loads in ("http", "src=", "url(", "@import", "<link"):
        assert loads not in text
    for words in (
        ("both", "Alan"),
        ("both", "Blue Heron"),
        ("gold", " Ltd"),
        ("said", "in "),
        ("both", "Paris"),
        ("said", "<b>"),
    ):
        assert words in page.marked
    assert "v&lt;1&gt;: true nothing, said LOC" in text
    assert "documents that the model has learned from" in error_page("x", scores, analysis, learned=True)


def test_the_card_says_what_it_is_how_good_and_where_it_is_weak():
    documents, said = example()
    analysis = analyse(documents, said, TRAINING, ["PER", "ORG", "LOC"])
    scores = span_scores([GOLD], [SAID], ["PER", "ORG", "LOC"]).as_json()
    scores["per_label"]["A|B"] = {"precision": 0.0, "recall": 0.0, "f1": -1.0, "support": 3.0}
    facts = {
        "backbone": {"name": "minilm", "revision": "r1"}, "entity_types": ["A|B", "ORG", "PER"], "seed": 13, "best_epoch": 4,
        "window": {"max_tokens": 64, "stride": 16}, "hyperparameters": {"dropout": 0.1}, "training": {"epochs": 6},
        "dataset_sha256": "ab" * 32, "scores": {"validation": scores}, "warm_start_sha256": "cd" * 32,
    }  # fmt: skip
    card = model_card(facts, {"license": "Apache-2.0"}, {"train": 2, "validation": 1}, analysis)
    for words in (
        "licence Apache-2.0", "2 training and 1 validation documents", "cdcdcdcdcdcdcdcd", "| A\\|B | 0.000", "weights of epoch 4",
        f"macro-F1 **{scores['macro_f1']:.4f}**", "Weakest label: A\\|B", "0.0% of 2 are found; of those it had, 50.0% of 2",
    ):  # fmt: skip
        assert words in card
    scores["learned_from"] = True
    learned = model_card(facts, {}, {"train": 2, "validation": 1}, analysis)
    assert "documents that it has learned from" in learned and "licence not known" in learned

"""What a model gets wrong on documents, counted by label, by length, and by whether training had the entity. Standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.ner.formats import Document, Span

NOTHING = ""
"""In place of a label: no entity."""
LENGTHS = ("1 word", "2 words", "3 words", "4 or more")
KINDS = ("wrong label", "wrong boundary", "wrong label and boundary", "missed", "invented")
"""Of errors: the label of the very span; the ends of a span that overlaps; both; nothing there at all, or nothing there in truth."""
EXAMPLES = 12
"""Of each kind, at most."""


@dataclass(frozen=True)
class Error:
    """One error: what is true, what was said (one of them may be None), and where."""

    kind: str
    document: Document
    gold: Span | None
    said: Span | None


@dataclass(frozen=True)
class Share:
    """Right answers among gold entities of one kind: recall and its support."""

    right: int
    all: int

    @property
    def recall(self) -> float | None:
        return self.right / self.all if self.all else None


@dataclass
class Analysis:
    """`confusion[gold][said]` counts entities; NOTHING as gold are invented ones, as said missed ones.

    `by_length` and `by_seen` are of gold entities; an entity is seen if training has the same words with the same label, its words
    known if with another one only.
    """

    entity_types: Sequence[str]
    confusion: dict[str, Counter[str]]
    by_length: dict[str, Share] = field(default_factory=dict)
    by_seen: dict[str, Share] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Error]] = field(default_factory=dict)


def analyse(
    documents: Sequence[Document],
    predicted: Sequence[Sequence[Span]],
    training: Sequence[Document],
    entity_types: Sequence[str],
) -> Analysis:
    """Compare the predictions, one sequence of spans a document, with the truth. Raises ValueError if their numbers differ.

    Every gold entity and every predicted one counts once: exact matches first, then the pairs that overlap most.
    """
    known = _surfaces(training)
    result = Analysis(sorted(entity_types), {label: Counter() for label in (*sorted(entity_types), NOTHING)})
    lengths: list[tuple[str, bool]] = []
    seen: list[tuple[str, bool]] = []
    for document, said in zip(documents, predicted, strict=True):
        for gold, guess in pair(document.spans, said):
            result.confusion[gold.label if gold else NOTHING][guess.label if guess else NOTHING] += 1
            right = gold is not None and gold == guess
            if gold is not None:
                surface = _surface(document.text, gold)
                words = len(surface.split())
                lengths.append((LENGTHS[min(max(words, 1), len(LENGTHS)) - 1], right))
                seen.append((_familiarity(known.get(surface, frozenset()), gold.label), right))
            if not right:
                _note(result, Error(_kind(gold, guess), document, gold, guess))
    result.by_length = _shares(lengths, LENGTHS)
    result.by_seen = _shares(seen, ("seen", "words known", "unseen"))
    return result


def pair(gold: Sequence[Span], said: Sequence[Span]) -> list[tuple[Span | None, Span | None]]:
    """Pair the spans of one document, each once, in the order of their places; what has no partner stands with None."""
    candidates = [
        (one != other, (one.start, one.end) != (other.start, other.end), -_overlap(one, other), number, partner)
        for number, one in enumerate(gold)
        for partner, other in enumerate(said)
        if _overlap(one, other) > 0
    ]
    partners: dict[int, int] = {}
    taken: set[int] = set()
    for *_, number, partner in sorted(candidates):
        if number not in partners and partner not in taken:
            partners[number] = partner
            taken.add(partner)
    pairs: list[tuple[Span | None, Span | None]] = [
        (one, said[partners[number]] if number in partners else None) for number, one in enumerate(gold)
    ]
    pairs += [(None, other) for partner, other in enumerate(said) if partner not in taken]
    return sorted(pairs, key=lambda both: min(span.start for span in both if span is not None))


def _overlap(one: Span, other: Span) -> int:
    return min(one.end, other.end) - max(one.start, other.start)


def _kind(gold: Span | None, said: Span | None) -> str:
    if gold is None:
        return "invented"
    if said is None:
        return "missed"
    same_place = (gold.start, gold.end) == (said.start, said.end)
    if same_place:
        return "wrong label"
    return "wrong boundary" if gold.label == said.label else "wrong label and boundary"


def _note(result: Analysis, error: Error) -> None:
    result.kinds[error.kind] += 1
    kept = result.examples.setdefault(error.kind, [])
    if len(kept) < EXAMPLES:
        kept.append(error)


def _surface(text: str, span: Span) -> str:
    """Return an entity's words in one spelling: case and white space make no other entity."""
    return " ".join(text[span.start : span.end].casefold().split())


def _surfaces(documents: Sequence[Document]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for document in documents:
        for span in document.spans:
            found.setdefault(_surface(document.text, span), set()).add(span.label)
    return {surface: frozenset(labels) for surface, labels in found.items()}


def _familiarity(labels: frozenset[str], label: str) -> str:
    if label in labels:
        return "seen"
    return "words known" if labels else "unseen"


def _shares(rows: Sequence[tuple[str, bool]], names: Sequence[str]) -> dict[str, Share]:
    alls, rights = Counter(name for name, _ in rows), Counter(name for name, right in rows if right)
    return {name: Share(rights[name], alls[name]) for name in names}

"""A deterministic generator of synthetic résumés, so that the factory runs with no data at hand and a score means something.

Names, companies, schools and skills come from pools that the splits do not share: what is found in the test split was
learnt from context, not by heart. The same size and seed give the same bytes on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from components.dataset import words
from components.ner.formats import Document, Span

ENTITY_TYPES = (
    "AWARD", "CERTIFICATION", "COMPANY", "DATE", "DEGREE", "DESIGNATION", "EMAIL", "LANGUAGE", "LOCATION", "PERSON", "PHONE",
    "SCHOOL", "SKILL", "URL",
)  # fmt: skip
_SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
"""Share of each disjoint pool."""


@dataclass(frozen=True)
class Size:
    """Documents per split, and the number of positions that stretches a document's length."""

    documents: dict[str, int]
    longest: int
    """Characters after which a document gets no further position."""


SIZES = {
    "tiny": Size({"train": 12, "validation": 6, "test": 6}, 900),
    "small": Size({"train": 96, "validation": 32, "test": 56}, 1950),
    "full": Size({"train": 1100, "validation": 150, "test": 250}, 7900),
}


def generate(size: str, seed: int) -> dict[str, list[Document]]:
    """Return the documents of each split. Raises KeyError for an unknown size."""
    chosen = SIZES[size]
    pools = _pools(seed)
    return {
        split: [
            _Resume(random.Random(f"{seed}/{split}/{number}"), pools[split], chosen.longest).document(
                f"{split}-{number:04d}"
            )
            for number in range(count)
        ]
        for split, count in chosen.documents.items()
    }


@dataclass(frozen=True)
class Pool:
    """What one split may draw from."""

    first: Sequence[str]
    last: Sequence[str]
    companies: Sequence[str]
    schools: Sequence[str]
    tools: Sequence[str]
    practices: Sequence[str]


def _pools(seed: int) -> dict[str, Pool]:
    def glue(starts: Sequence[str], ends: Sequence[str]) -> list[str]:
        return [start + end for start, end in product(starts, ends)]

    parts = {
        "first": glue(words.FIRST_STARTS, words.FIRST_ENDS),
        "last": glue(words.LAST_STARTS, words.LAST_ENDS),
        "companies": glue(words.COMPANY_STARTS, words.COMPANY_ENDS),
        "schools": list(words.SCHOOL_PLACES),
        "tools": glue(words.TOOL_STARTS, words.TOOL_ENDS),
        "practices": list(words.PRACTICES),
    }
    divided: dict[str, dict[str, Sequence[str]]] = {split: {} for split in _SHARES}
    for name, items in parts.items():
        random.Random(f"{seed}/pool/{name}").shuffle(items)
        start = 0
        for split, share in _SHARES.items():
            end = start + round(len(items) * share)
            divided[split][name] = items[start : end if split != "test" else len(items)]
            start = end
    return {split: Pool(**pool) for split, pool in divided.items()}


class _Resume:
    """Writes one document piece by piece, noting where the entities are."""

    def __init__(self, draw: random.Random, pool: Pool, longest: int) -> None:
        self._draw = draw
        self._pool = pool
        self._longest = draw.randint(250, longest)
        self._text: list[str] = []
        self._length = 0
        self._spans: list[Span] = []

    def document(self, name: str) -> Document:
        self._head()
        sections: list[Callable[[], None]] = [
            self._summary, self._work, self._education, self._skills, self._languages, self._certificates, self._awards,
        ]  # fmt: skip
        if self._draw.random() < 0.4:
            tail = sections[2:]
            self._draw.shuffle(tail)
            sections[2:] = tail
        for section in sections:
            if self._length < self._longest:
                section()
        return self._noisy(name)

    # Writing

    def _write(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)

    def _entity(self, text: str, label: str) -> None:
        start = self._length
        self._write(text)
        self._spans.append(Span(start, self._length, label))

    def _heading(self, section: str) -> None:
        heading = self._draw.choice(words.HEADINGS[section])
        style = self._draw.random()
        self._write("\n" + (heading.upper() if style < 0.35 else heading) + (":" if style > 0.8 else "") + "\n")

    def _bullet(self) -> str:
        return self._draw.choice(("- ", "* ", "• ", "", "o "))

    # Pieces

    def _head(self) -> None:
        draw = self._draw
        first, last = draw.choice(self._pool.first), draw.choice(self._pool.last)
        lead = draw.choice(("", "", "Name: ", "Curriculum Vitae\n", "Resume of "))
        self._write(lead)
        self._entity(f"{first} {last}", "PERSON")
        self._write("\n")
        if draw.random() < 0.6:
            self._entity(self._title(), "DESIGNATION")
            self._write("\n")
        contacts = [
            lambda: self._contact(("Email: ", "E-Mail ", ""), self._email(first, last), "EMAIL"),
            lambda: self._contact(("Phone: ", "Tel. ", "Mobile ", ""), self._phone(), "PHONE"),
            lambda: self._contact(("Address: ", "Lives in ", "Wohnort: ", ""), draw.choice(words.CITIES), "LOCATION"),
            lambda: self._contact(("Web: ", "Portfolio ", ""), self._url(first, last), "URL"),
        ]
        draw.shuffle(contacts)
        separator = draw.choice(("\n", " | ", ", "))
        for contact in contacts[: draw.randint(2, 4)]:
            contact()
            self._write(separator)
        self._write("\n")

    def _contact(self, leads: Sequence[str], text: str, label: str) -> None:
        self._write(self._draw.choice(leads))
        self._entity(text, label)

    def _email(self, first: str, last: str) -> str:
        host = self._draw.choice(("mailbox", "postfach", "inbox", "letterbird")) + self._draw.choice(
            (".example", ".test")
        )
        return f"{first}{self._draw.choice('._-')}{last}@{host}".lower()

    def _phone(self) -> str:
        draw = self._draw
        pattern = draw.choice(("+49 {} {}", "({}) {}", "0{}-{}", "+1-{}-{}"))
        return pattern.format(draw.randint(100, 999), draw.randint(1000000, 9999999))

    def _url(self, first: str, last: str) -> str:
        return self._draw.choice(("https://{}{}.example", "www.{}-{}.test", "portfolio.example/{}{}")).format(
            first.lower(), last.lower()
        )

    def _title(self) -> str:
        return self._draw.choice(words.TITLE_RANKS) + self._draw.choice(words.TITLES)

    def _company(self) -> str:
        form = self._draw.choice(words.COMPANY_FORMS)
        name = self._draw.choice(self._pool.companies)
        return f"{name} {form}" if form else name

    def _skill(self) -> str:
        return self._draw.choice(self._pool.tools if self._draw.random() < 0.65 else self._pool.practices)

    def _month(self) -> str:
        draw = self._draw
        year = draw.randint(1998, 2025)
        return draw.choice((f"{draw.choice(words.MONTHS)} {year}", f"{draw.randint(1, 12):02d}/{year}", str(year)))

    def _summary(self) -> None:
        draw = self._draw
        self._heading("summary")
        self._entity(self._title(), "DESIGNATION")
        self._write(f" with {draw.randint(2, 20)} years of practice, at home with ")
        self._entity(self._skill(), "SKILL")
        self._write(draw.choice((" and ", ", also ", " as well as ")))
        self._entity(self._skill(), "SKILL")
        self._write(draw.choice((".", ". Looking for a new task in ", ". Based in ")))
        if self._text[-1] != ".":
            self._entity(draw.choice(words.CITIES), "LOCATION")
            self._write(".")
        self._write("\n")

    def _work(self) -> None:
        self._heading("work")
        self._position()
        while self._length < self._longest * 0.65:
            self._position()

    def _position(self) -> None:
        draw = self._draw
        order = draw.random()
        if order < 0.5:
            self._entity(self._title(), "DESIGNATION")
            self._write(draw.choice((" at ", ", ", " - ", " bei ")))
            self._entity(self._company(), "COMPANY")
        else:
            self._entity(self._company(), "COMPANY")
            self._write(draw.choice((": ", ", ", " | ", "\n")))
            self._entity(self._title(), "DESIGNATION")
        if draw.random() < 0.5:
            self._write(", ")
            self._entity(draw.choice(words.CITIES), "LOCATION")
        self._write(draw.choice((" (", "\n", " ")))
        self._entity(self._month(), "DATE")
        self._write(draw.choice((" - ", " to ", " bis ")))
        if draw.random() < 0.8:
            self._entity(self._month(), "DATE")
        else:
            self._write("today")
        self._write("\n")
        for _ in range(draw.randint(1, 3)):
            self._write(self._bullet())
            if draw.random() < 0.45:
                self._write(draw.choice(("Introduced ", "Daily work with ", "Responsible for ", "Built the team's ")))
                self._entity(self._skill(), "SKILL")
                self._write(draw.choice((" for the whole group.", " in production.", ".")))
            else:
                self._write(draw.choice(words.DUTIES).format(draw.randint(3, 80)))
            self._write("\n")

    def _education(self) -> None:
        draw = self._draw
        self._heading("education")
        for _ in range(draw.randint(1, 2)):
            school = draw.choice(words.SCHOOL_FORMS).format(draw.choice(self._pool.schools))
            pieces = [(draw.choice(words.DEGREES), "DEGREE"), (school, "SCHOOL")]
            draw.shuffle(pieces)
            self._entity(*pieces[0])
            self._write(draw.choice((", ", " - ", "\n", " / ")))
            self._entity(*pieces[1])
            self._write(draw.choice((", ", " (", " ")))
            self._entity(self._month(), "DATE")
            self._write("\n")

    def _skills(self) -> None:
        draw = self._draw
        self._heading("skills")
        separator = draw.choice((", ", "\n- ", " | ", "; "))
        self._listing([self._skill() for _ in range(draw.randint(3, 9))], "SKILL", separator)

    def _languages(self) -> None:
        draw = self._draw
        self._heading("languages")
        for language in draw.sample(words.LANGUAGES, draw.randint(1, 3)):
            self._entity(language, "LANGUAGE")
            level = draw.choice(words.LEVELS)
            self._write((f" ({level})" if level else "") + draw.choice(("\n", ", ")))
        self._write("\n")

    def _certificates(self) -> None:
        self._heading("certificates")
        self._listing(self._draw.sample(words.CERTIFICATES, self._draw.randint(1, 2)), "CERTIFICATION", "\n")

    def _awards(self) -> None:
        self._heading("awards")
        self._entity(self._draw.choice(words.AWARDS), "AWARD")
        self._write(", ")
        self._entity(self._month(), "DATE")
        self._write("\n")

    def _listing(self, items: Sequence[str], label: str, separator: str) -> None:
        for position, item in enumerate(dict.fromkeys(items)):
            self._write(separator if position else "")
            self._entity(item, label)
        self._write("\n")

    # Noise

    def _noisy(self, name: str) -> Document:
        """Return the document with noise that moves no offset: breaks for spaces, odd casing, misread characters."""
        text = "".join(self._text)
        characters = list(text)
        draw = self._draw
        if draw.random() < 0.35:
            for position, character in enumerate(characters):
                if character == " " and draw.random() < 0.03:
                    characters[position] = "\n"
        if draw.random() < 0.25:
            misread = {"l": "1", "O": "0", "S": "5", "B": "8"}
            for position, character in enumerate(characters):
                if character in misread and draw.random() < 0.02:
                    characters[position] = misread[character]
        lines = "".join(characters).split("\n")
        casing = draw.random()
        if casing < 0.12:
            lines = [_same_length(line, str.upper) if draw.random() < 0.4 else line for line in lines]
        elif casing < 0.2:
            lines = [_same_length(line, str.lower) for line in lines]
        noisy = "\n".join(lines)
        return Document(name, noisy, tuple(self._spans))


def _same_length(line: str, change: Callable[[str], str]) -> str:
    """Change case, but never where that would move the offsets behind (as `ß`.upper() does)."""
    changed = change(line)
    return changed if len(changed) == len(line) else line

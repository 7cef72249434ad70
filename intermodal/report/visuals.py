"""What KFP's visual artifact types hold, as a page can show it: metrics, classification metrics, Markdown, HTML."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from intermodal.engine.artifacts import Artifact
from intermodal.engine.store import Store
from intermodal.report.charts import draw_confusion, draw_roc, read_confusion, read_roc, slices
from intermodal.report.markup import Markup, clean, join, tag
from intermodal.report.words import json_text, size

METRICS = "system.Metrics"
CLASSIFICATION = ("system.ClassificationMetrics", "system.SlicedClassificationMetrics")
PAGES = ("system.Markdown", "system.HTML")
_MOST_MARKDOWN = 256 * 1024
_MOST_HTML = 6 * 1024 * 1024
"""A page with plotly.js in it has 5 MB."""


class Gallery:
    """Draws artifacts for one page; remembers what the page must then allow, and how much it may still hold."""

    def __init__(self, store: Store, room: int) -> None:
        """`room`: bytes of step-made pages that the report may hold."""
        self._store = store
        self._room = room
        self.script_hashes: list[str] = []
        """CSP sources of the scripts in step-made pages: they run in their sandboxed frames, nothing else may."""

    def draw(self, artifact: Artifact) -> Markup | None:
        """Return the artifact drawn, None if its type has no picture."""
        kind = artifact.type.schema_title
        if kind in CLASSIFICATION:
            return _classification(artifact.metadata)
        if kind not in PAGES or not artifact.digest:
            return None
        text, problem = self._read(artifact.digest, _MOST_HTML if kind == "system.HTML" else _MOST_MARKDOWN)
        if text is None:
            return tag("p", problem, class_="dim")
        return self._frame(text) if kind == "system.HTML" else tag("div", markdown(text), class_="markdown")

    def _read(self, digest: str, most: int) -> tuple[str | None, str]:
        """Return the text, or why it is not shown."""
        path = self._store.path(digest)
        limit = min(most, self._room)
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
                content = stream.read(limit + 1)
        except OSError as error:
            return None, f"not shown: {path}: {error.strerror}"
        if len(content) > limit:
            return None, f"too large to be shown here ({size(path.stat().st_size)}): {path}"
        self._room -= len(content)
        return content.decode("utf-8", "replace"), ""

    def _frame(self, text: str) -> Markup:
        """Return a step-made page in a frame that can reach nothing: no origin, no network (the page's policy holds in it).

        A frame's text is parsed with line ends made equal, and so must be what is hashed.
        """
        text = clean(text).replace("\r\n", "\n").replace("\r", "\n")
        self.script_hashes += script_hashes(text)
        return tag(
            "iframe",
            srcdoc=text,
            sandbox="allow-scripts",
            loading="lazy",
            referrerpolicy="no-referrer",
            title="step-made page",
        )


def script_hashes(text: str) -> list[str]:
    """Return the CSP source of each inline script of a page."""
    finder = _Scripts()
    finder.feed(text)
    finder.close()
    return [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in finder.found
    ]


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" and not any(name == "src" for name, _ in attrs):
            self._inside = True
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False


def markdown(text: str) -> Markup:
    """Return Markdown as HTML. HTML in it is text, and pictures are links: a report loads nothing."""
    from markdown_it import MarkdownIt  # only where a run has such an artifact

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    return Markup(parser.render(clean(text)))


def _classification(metadata: Mapping[str, Any]) -> Markup:
    parts = [join(tag("h4", f"slice {name}"), _one(inside)) for name, inside in slices(metadata)]
    if not parts or "confusionMatrix" in metadata or "confidenceMetrics" in metadata:
        parts.insert(0, _one(metadata))
    return join(parts)


def _one(metadata: Mapping[str, Any]) -> Markup:
    confusion, roc = read_confusion(metadata), read_roc(metadata)
    drawn = [draw_confusion(confusion) if confusion else None, draw_roc(roc) if roc else None]
    known = {"confusionMatrix": confusion, "confidenceMetrics": roc, "evaluationSlices": True}
    rest = {key: value for key, value in metadata.items() if not known.get(key)}
    if rest:
        drawn.append(tag("pre", json_text(rest, indent=1)[:20_000]))
    return tag("div", drawn, class_="charts")

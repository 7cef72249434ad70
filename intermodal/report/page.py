"""The whole page. Its policy lets nothing load and nothing run but the one script of ours, named by its hash."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.store import Store
from intermodal.report import sections
from intermodal.report.graph import draw_graph
from intermodal.report.markup import Markup, join, tag
from intermodal.report.record import RunRecord, read_run
from intermodal.report.timeline import draw_timeline
from intermodal.report.visuals import Gallery
from intermodal.report.words import SIGNS, WORST_FIRST, duration
from intermodal.spec.load import load_pipeline
from intermodal.spec.types import Pipeline

REPORT = "report.html"
"""The report's name in the folder of its run."""
_ROOM = 24 * 1024 * 1024
"""Bytes of step-made pages in one report."""
_HERE = Path(__file__).parent


def write_report(database: Database, state: StateFolder, run: str, pipeline: Pipeline | None = None) -> Path:
    """Write the report of a run into the run's folder, whole or not at all, and return its path.

    `pipeline` saves reading it again. Raises OSError.
    """
    folder = state.run(run)
    temporary = folder / f"{REPORT}.{os.getpid()}.tmp"
    try:
        temporary.write_text(render(database, state, run, pipeline), encoding="utf-8")
        temporary.replace(folder / REPORT)
    finally:
        temporary.unlink(missing_ok=True)
    return folder / REPORT


def render(database: Database, state: StateFolder, run: str, pipeline: Pipeline | None = None) -> str:
    """Return the report of a run, which must be in the record."""
    path = state.run(run) / "pipeline.yaml"
    if pipeline is None and path.is_file():
        pipeline = load_pipeline(path)
    found = read_run(database, state, run, pipeline)
    return _page(found, Gallery(Store(state.store), _ROOM))


def _page(run: RunRecord, gallery: Gallery) -> str:
    now = time.time()
    parts = [
        ("failures", "What failed", sections.failures(run)),
        ("results", "Results", sections.results(run, gallery)),
        ("graph", "Graph", _scrolled(draw_graph(run))),
        ("timeline", "Timeline", draw_timeline(run, now)),
        ("metrics", "Metrics", sections.metrics(run)),
        ("artifacts", "Artifacts", sections.pictures(run, gallery)),
        ("tasks", "Tasks", sections.tasks(run)),
        ("configuration", "Configuration", sections.configuration(run)),
        ("identity", "Identity", sections.identity(run)),
    ]
    shown = [(anchor, title, body) for anchor, title, body in parts if body is not None]
    links = tag("nav", [tag("a", title, href=f"#{anchor}") for anchor, title, _ in shown])
    blocks = [tag("section", tag("h2", title), content, id=anchor) for anchor, title, content in shown]
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script, gallery)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{run.pipeline_name} {run.state.value.lower()} · {run.id}"),
        tag("style", Markup(style)),
    )
    body = tag("body", _header(run, now), links, tag("main", blocks), tag("script", Markup(script)))
    page = tag("html", tag("head", head), body, lang="en")
    return f"<!doctype html>\n{page}\n"


def _policy(script: str, gallery: Gallery) -> str:
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = " ".join(dict.fromkeys([f"'sha256-{own}'", *gallery.script_hashes]))
    # Frames made of `srcdoc` inherit all of this; `frame-src 'none'` keeps them from going elsewhere.
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "frame-src 'none'; form-action 'none'; base-uri 'none'"
    )


def _header(run: RunRecord, now: float) -> Markup:
    ended = run.ended if run.ended is not None else now
    started = datetime.fromtimestamp(run.started, UTC).astimezone()
    counts = Counter(task.state for task in run.leaves)
    total = sum(counts.values())
    order = [state for state in reversed(WORST_FIRST) if counts[state]]
    bar = [
        tag(
            "i",
            class_=f"s-{state.value.lower()}",
            style=f"flex-grow:{counts[state]}",
            title=f"{counts[state]} {state.value.lower()}",
        )
        for state in order
    ]
    legend = [
        tag(
            "span", tag("b", counts[state]), f" {SIGNS[state]} {state.value.lower()}", class_=f"s-{state.value.lower()}"
        )
        for state in reversed(order)
    ]
    facts = [
        (duration(ended - run.started), "from start to end" if run.ended is not None else "so far"),
        (f"{started:%Y-%m-%d %H:%M:%S %Z}", "started"),
        (run.backend, "backend"),
        (str(total), "task" if total == 1 else "tasks"),
    ]
    return tag(
        "header",
        tag("h1", run.pipeline_name, " ", sections.badge(run.state)),
        tag("p", tag("code", run.id), class_="dim"),
        tag("dl", [tag("div", tag("dd", value), tag("dt", name)) for value, name in facts]),
        tag("div", bar, class_="counts") if bar else None,
        tag("p", legend, class_="legend") if legend else None,
    )


def _scrolled(drawing: Markup | None) -> Markup | None:
    return tag("div", drawing, class_="scroll graph") if drawing is not None else None

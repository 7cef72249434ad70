"""The parts of a report below its pictures: failures, results, metrics, tasks, configuration, identity."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Artifact
from intermodal.engine.naming import safe_name
from intermodal.engine.states import State
from intermodal.report.markup import Markup, join, tag
from intermodal.report.record import AttemptRecord, RunRecord, TaskRecord
from intermodal.report.timeline import label_of
from intermodal.report.visuals import METRICS, Gallery
from intermodal.report.words import SIGNS, clip, duration, json_text, number

_MOST_FAILURES = 30
_MOST_DRAWN = 60
_MOST_ROWS = 400
_MOST_DETAILS = 2000
_TAIL_BYTES = 8 * 1024
_TAIL_LINES = 60
_LONGEST_VALUE = 600


def badge(state: State) -> Markup:
    return tag("span", f"{SIGNS[state]} {state.value.lower()}", class_=f"badge s-{state.value.lower()}")


# Failures


def failures(run: RunRecord) -> Markup | None:
    """Return what failed, why, and the end of its log."""
    failed = [task for task in run.tasks if task.failure_class and task.state is State.FAILED]
    if not failed:
        return None
    cards = [_failure(run, task) for task in failed[:_MOST_FAILURES]]
    more = len(failed) - _MOST_FAILURES
    return join(cards, tag("p", f"and {more} more; the table of tasks holds all", class_="dim") if more > 0 else None)


def _failure(run: RunRecord, task: TaskRecord) -> Markup:
    last = task.attempts[-1] if task.attempts else None
    tries = f", {len(task.attempts)} attempts" if len(task.attempts) > 1 else ""
    log = read_tail(last.log) if last else ""
    command = f"intermodal shell {run.id}/{task.path}"
    return tag(
        "article",
        tag(
            "h3",
            label_of(task),
            " ",
            tag("span", task.failure_class, class_="badge s-failed"),
            tag("span", tries, class_="dim"),
        ),
        tag("p", task.failure, class_="message"),
        tag("div", tag("pre", log), class_="log") if log else None,
        tag("p", tag("code", command), " opens it as it was; also logs, replay", class_="commands") if last else None,
        class_="failure",
    )


def read_tail(log: Path) -> str:
    """Return the end of a log as text, empty if there is none."""
    try:
        with os.fdopen(os.open(log, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line.rpartition("\r")[2] for line in lines[-_TAIL_LINES:])


# Results and pictures


def results(run: RunRecord, gallery: Gallery) -> Markup | None:
    """Return the pipeline's outputs: values, links to files, and what of them can be drawn."""
    rows = [(name, value_of(value)) for name, value in sorted(run.outputs.parameters.items())]
    drawn = []
    for name, items in sorted(run.outputs.artifacts.items()):
        for index, item in enumerate(items):
            label = name if len(items) == 1 else f"{name}-{index}"
            rows.append((label, _file_link(run, label, item)))
            picture = gallery.draw(item)
            if picture is not None:
                drawn.append(tag("figure", tag("figcaption", label), picture))
    if not rows:
        return None
    return join(_pairs(rows), drawn)


def _file_link(run: RunRecord, label: str, item: Artifact) -> Markup:
    kind = tag("span", item.type.schema_title.removeprefix("system."), class_="dim")
    found = next((run.folder / "outputs").glob(f"{_glob_safe(label)}*"), None) if item.digest else None
    if found is None:
        return join(kind, " ", item.uri or json_text(dict(item.metadata))[:_LONGEST_VALUE])
    return join(kind, " ", tag("a", f"outputs/{found.name}", href=f"outputs/{found.name}"))


def _glob_safe(text: str) -> str:
    return safe_name(text).replace("[", "[[]")


def metrics(run: RunRecord) -> Markup | None:
    """Return a table for each task of the pipeline that gave metrics; a task of a loop has a row for each iteration."""
    tables = []
    for tasks in run.by_place.values():
        rows = [(task, _metrics_of(task)) for task in tasks if task.is_leaf]
        rows = [(task, found) for task, found in rows if found]
        if rows:
            tables.append(
                tag(
                    "article",
                    tag("h3", rows[0][0].place[-1]),
                    _metrics_table(rows),
                    class_="metric" if len(rows) == 1 else "metric wide",
                )
            )
    return tag("div", tables, class_="metrics") if tables else None


def _metrics_of(task: TaskRecord) -> dict[str, Any]:
    found: dict[str, Any] = {}
    several = sum(item.type.schema_title == METRICS for _, item in task.artifacts()) > 1
    for name, item in task.artifacts():
        if item.type.schema_title == METRICS:
            found |= {f"{name}.{key}" if several else key: value for key, value in item.metadata.items()}
    return found


def _metrics_table(rows: Sequence[tuple[TaskRecord, Mapping[str, Any]]]) -> Markup:
    keys = list(dict.fromkeys(key for _, found in rows for key in sorted(found)))
    if len(rows) == 1:
        return _pairs([(key, _metric(rows[0][1][key])) for key in keys], class_="numbers")
    head = tag("tr", tag("th", "task"), [tag("th", key) for key in keys])
    body = [
        tag("tr", tag("td", label_of(task)), [tag("td", _metric(found.get(key))) for key in keys])
        for task, found in rows[:_MOST_ROWS]
    ]
    more = tag("p", f"and {len(rows) - _MOST_ROWS} more", class_="dim") if len(rows) > _MOST_ROWS else None
    return join(
        tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="numbers"), class_="scroll"), more
    )


def _metric(value: Any) -> Markup:
    return tag(
        "span",
        "" if value is None else clip(number(value), 120),
        title=None if value is None else clip(str(value), 200),
    )


def pictures(run: RunRecord, gallery: Gallery) -> Markup | None:
    """Return the artifacts of tasks that can be drawn, but those that are the pipeline's own outputs."""
    own = {item.digest for items in run.outputs.artifacts.values() for item in items if item.digest}
    drawn: list[Markup] = []
    left = 0
    for task in run.leaves:
        for name, item in task.artifacts():
            if item.digest and item.digest in own:
                continue
            if len(drawn) >= _MOST_DRAWN:
                left += item.type.schema_title != METRICS
                continue
            picture = gallery.draw(item)
            if picture is not None:
                drawn.append(tag("figure", tag("figcaption", label_of(task), " · ", name), picture))
    more = tag("p", f"{_MOST_DRAWN} are drawn; the run has more artifacts", class_="dim") if left else None
    return join(drawn, more) if drawn else None


# Tasks


def tasks(run: RunRecord) -> Markup:
    """Return every task with what it was given, what it gave, and how it ran."""
    rows = [_task(task, with_details=index < _MOST_DETAILS) for index, task in enumerate(run.tasks)]
    box = tag(
        "input",
        type="search",
        id="filter",
        placeholder="filter by name or state",
        autocomplete="off",
        aria_label="filter",
    )
    return join(box, tag("div", rows, id="task-list"))


def _task(task: TaskRecord, *, with_details: bool) -> Markup:
    seconds = task.seconds
    timed = duration(seconds) if seconds is not None and task.state in (State.SUCCEEDED, State.FAILED) else ""
    why = task.failure or task.reason or ""
    head = tag(
        "summary",
        badge(task.state),
        tag("span", task.path, class_="path"),
        tag("span", clip(why, 160), class_="why"),
        tag("span", timed, class_="time"),
    )
    return tag("details", head, _details(task) if with_details else None, id=task.anchor, class_="task")


def _details(task: TaskRecord) -> Markup:
    last = task.attempts[-1] if task.attempts else None
    rows: list[tuple[str, Any]] = []
    if task.failure:
        rows.append(("failure", f"{task.failure_class}: {task.failure}"))
    if task.reason and task.failure:
        rows.append(("why it ran", task.reason))
    if task.cached_from:
        rows.append(("from", tag("code", task.cached_from)))
    if task.fingerprint:
        rows.append(("fingerprint", tag("code", task.fingerprint)))
    rows += _launch_rows(last) if last else []
    for what, found in (("input", task.inputs), ("output", task.outputs.as_json())):
        rows += [(f"{what} {name}", value_of(value)) for name, value in sorted(found.get("parameters", {}).items())]
        for name, items in sorted(found.get("artifacts", {}).items()):
            rows += [(f"{what} {name}", _artifact(Artifact.from_json(item))) for item in items[:20]]
    rows += [(f"attempt {attempt.number}", _attempt(attempt)) for attempt in task.attempts]
    return _pairs(rows)


def _launch_rows(attempt: AttemptRecord) -> Iterable[tuple[str, Any]]:
    launch = attempt.launch
    if not launch:
        return
    image = launch["image"]
    yield (
        "image",
        join(tag("code", image["reference"]), " ", tag("code", clip(image["digest"], 24), title=image["digest"])),
    )
    words = [*launch["command"], *launch["args"]]
    if words:
        yield "command", tag("pre", clip("\n".join(words), 4 * _LONGEST_VALUE))
    variables = [name if value is None else f"{name}={value}" for name, value in sorted(launch["env"].items())]
    if variables:
        yield "environment", tag("pre", clip("\n".join(variables), 2 * _LONGEST_VALUE))


def _attempt(attempt: AttemptRecord) -> Markup:
    took = duration(attempt.ended - attempt.started) if attempt.ended is not None else "no end on record"
    text = attempt.failure or (f"exit code {attempt.exit_code}" if attempt.exit_code is not None else "")
    return join(f"{took}  {text}  ", tag("code", str(attempt.log)))


def _artifact(item: Artifact) -> Markup:
    content = tag("code", clip(item.digest, 20), title=item.digest) if item.digest else item.uri
    known = tag("span", clip(json_text(dict(item.metadata)), _LONGEST_VALUE), class_="dim") if item.metadata else None
    return join(tag("span", item.type.schema_title.removeprefix("system."), class_="dim"), " ", content, " ", known)


# Configuration and identity


def configuration(run: RunRecord) -> Markup:
    """Return the arguments, what they were resolved from if that says more, and the options."""
    parts = [tag("h3", "arguments"), _pairs([(name, value_of(value)) for name, value in sorted(run.arguments.items())])]
    if run.configuration != run.arguments:
        more = {key: value for key, value in run.configuration.items() if run.arguments.get(key) != value}
        if more:
            parts += [
                tag("h3", "configuration"),
                _pairs([(name, value_of(value)) for name, value in sorted(more.items())]),
            ]
    for title in ("options", "settings"):
        found = run.request.get(title)
        if isinstance(found, Mapping):
            rows = [(name, value_of(value)) for name, value in sorted(found.items()) if value not in (None, [], {})]
            parts += [tag("h3", title), _pairs(rows)]
    return tag("div", parts, class_="columns")


def identity(run: RunRecord) -> Markup:
    """Return what names the run's parts by content."""
    rows: list[tuple[str, Any]] = [
        ("run", tag("code", run.id)),
        ("pipeline", join(run.pipeline_name, " ", tag("code", f"sha256:{run.pipeline_digest}"))),
        ("configuration", tag("code", f"sha256:{run.configuration_digest}")),
        ("backend", run.backend),
    ]
    if run.pipeline is not None and run.pipeline.sdk_version:
        rows.append(("SDK", run.pipeline.sdk_version))
    found: dict[tuple[str, str, str], int] = {}
    for task in run.leaves:
        for attempt in task.attempts[-1:]:
            image = attempt.launch.get("image", {})
            key = (image.get("reference", ""), image.get("id", ""), image.get("digest", ""))
            found[key] = found.get(key, 0) + 1
    images = [
        tag(
            "tr",
            tag("td", reference),
            tag("td", tag("code", digest)),
            tag("td", tag("code", clip(id_, 19), title=id_)),
            tag("td", count),
        )
        for (reference, id_, digest), count in sorted(found.items())
    ]
    head = tag("tr", [tag("th", text) for text in ("image", "content digest", "id", "attempts")])
    table = tag("div", tag("table", tag("thead", head), tag("tbody", images)), class_="scroll") if images else None
    return join(_pairs(rows), table)


# Shared


def value_of(value: Any) -> Markup:
    """Return a parameter's value: short ones in the line, long ones folded."""
    text = value if isinstance(value, str) else json_text(value, indent=1 if isinstance(value, dict | list) else None)
    flat = value if isinstance(value, str) else json_text(value)
    if len(flat) <= 100 and "\n" not in flat:
        return tag("code", flat)
    clipped = clip(text, 20 * _LONGEST_VALUE)
    return tag(
        "details", tag("summary", tag("code", clip(" ".join(flat.split()), 90))), tag("pre", clipped), class_="value"
    )


def _pairs(rows: Sequence[tuple[str, Any]], class_: str | None = None) -> Markup:
    if not rows:
        return tag("p", "none", class_="dim")
    lines = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows]
    return tag("table", tag("tbody", lines), class_=f"pairs {class_ or ''}".strip())

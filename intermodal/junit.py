"""A run as a JUnit report, which CI systems show: one test case for each task that is not a group of others."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from intermodal.engine.states import State
from intermodal.results import Run, Task, log_tail

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""


def junit(run: Run) -> str:
    """Return the report. A cached task has taken no time; one that was skipped or cancelled is a skipped test case."""
    tasks = [task for path, task in run.tasks.items() if not any(other.startswith(f"{path}/") for other in run.tasks)]
    failed = sum(1 for task in tasks if task.state is State.FAILED)
    skipped = sum(1 for task in tasks if _is_skipped(task))
    counts = {"tests": len(tasks), "failures": failed, "errors": 0, "skipped": skipped, "time": f"{run.seconds:.3f}"}
    attributes = {name: str(value) for name, value in counts.items()}
    suites = ElementTree.Element("testsuites", {"name": "intermodal", **attributes})
    suite = ElementTree.SubElement(
        suites, "testsuite", {"name": _text(run.pipeline), "id": _text(run.id), **attributes}
    )
    for task in tasks:
        _add(suite, run, task)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def write_junit(run: Run, path: Path) -> None:
    """Write the report to `path`; its folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(junit(run), encoding="utf-8")


def _add(suite: ElementTree.Element, run: Run, task: Task) -> None:
    seconds = 0.0 if task.cached_from else task.seconds
    attributes = {"name": _text(task.path), "classname": _text(run.pipeline), "time": f"{seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    if task.state is State.FAILED:
        failure = task.failure
        kind, message = (failure.kind.value, failure.message) if failure else ("failed", "a task in it failed")
        body = ElementTree.SubElement(case, "failure", {"type": kind, "message": _text(message)})
        body.text = _text(log_tail(task)) or None
    elif _is_skipped(task):
        ElementTree.SubElement(case, "skipped", {"message": task.state.value.lower()})


def _is_skipped(task: Task) -> bool:
    return task.state in (State.SKIPPED, State.CANCELLED, State.PENDING, State.RUNNING)


def _text(value: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", value)

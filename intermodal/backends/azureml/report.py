"""The compile report: how each construct of the pipeline was realised, and what is not kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

How = Literal["exact", "launcher", "unrolled", "table"]
"""AzureML has it itself; the launcher does it; copies were made at compile time; the settings say."""

GAPS: Mapping[str, str] = {
    "exit-after-kill": "a task killed for memory or preempted ends its AzureML job as failed, so tasks that must run whatever "
    "happened (exit handlers, ignore_upstream_failure) do not run after it",
    "infrastructure-retry": "retries happen inside the task's job: a job whose machine is lost is not run again",
    "loop-bound": "a loop over what a task makes has a fixed number of slots: more items than that fail the run",
    "cache-key": "AzureML cannot be told to ignore inputs: an equal cache key with different inputs runs again",
}
"""What AzureML cannot keep, by the name that `--accept` takes."""


@dataclass(frozen=True)
class Line:
    """One construct of one task."""

    task: str
    construct: str
    how: How
    note: str = ""


@dataclass(frozen=True)
class Gap:
    """Something that AzureML cannot keep, and where."""

    name: str
    task: str


@dataclass(frozen=True)
class Report:
    """All of it, in the order of the pipeline."""

    pipeline: str
    nodes: Mapping[str, str]
    """Node in AzureML -> path of the task."""
    lines: Sequence[Line]
    gaps: Sequence[Gap]
    warnings: Sequence[str]

    def as_json(self) -> str:
        document = {
            "pipeline": self.pipeline,
            "nodes": dict(self.nodes),
            "constructs": [asdict(line) for line in self.lines],
            "gaps": [{**asdict(gap), "meaning": GAPS[gap.name]} for gap in self.gaps],
            "warnings": list(self.warnings),
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        lines = [f"# {self.pipeline} on AzureML", "", f"{len(self.nodes)} nodes.", ""]
        lines += ["| task | construct | realised | note |", "| --- | --- | --- | --- |"]
        lines += [f"| {_cell(x.task)} | {_cell(x.construct)} | {x.how} | {_cell(x.note)} |" for x in self.lines]
        if self.gaps:
            lines += ["", "## Accepted gaps", ""]
            lines += [f"- **{gap.name}** ({_cell(gap.task)}): {GAPS[gap.name]}." for gap in self.gaps]
        if self.warnings:
            lines += ["", "## Warnings", ""]
            lines += [f"- {warning}" for warning in self.warnings]
        return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

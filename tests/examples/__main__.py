"""`python -m tests.examples CHECKOUT`: submit the pipeline jobs of Azure/azureml-examples to the emulator, and say what came of each.

Exit 0 if the real client loads, checks and submits each of them (but those that need something first: components or data to be
registered, files to be fetched), and each job ends with a state and a reason. How far its nodes run is a matter of images:
`--image NAME=IMAGE` names one for an environment, `*` for every other.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from intermodal.backends.azureml.emulator.client import connect
from intermodal.backends.azureml.emulator.emulate import emulating
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.emulator.plane import Plane
from intermodal.backends.docker import DockerBackend
from tests.support.azurite import TOOLS

_FOLDERS = ("cli/jobs/pipelines", "cli/jobs/pipelines-with-components", "sdk/python/jobs/pipelines")
_KNOWN = {
    **dict.fromkeys(("ot found", "does not exist", "do not exist"), "unprepared"),
    "the emulator runs command, pipeline and sweep": "refused",
}
"""What the client says -> what it means: a component or data that must be registered before, or files that a script of the
example fetches; a type of component that the emulator refuses."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 600.0


@dataclass(frozen=True)
class Row:
    path: str
    verdict: str
    """completed, failed (after it was submitted), refused (for a type of node or component), unprepared, wrong."""
    words: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make examples", description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of Azure/azureml-examples")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only jobs whose path holds TEXT")
    parser.add_argument(
        "--image", action="append", default=[], metavar="NAME=IMAGE", help="what runs for an environment"
    )
    parser.add_argument("--work", type=Path, default=Path(".intermodal/examples"), help="the emulator's folder")
    args = parser.parse_args()
    images = dict(item.rpartition("=")[::2] for item in args.image)
    paths = [path for path in jobs(args.checkout) if not args.only or any(text in str(path) for text in args.only)]
    if not paths:
        print(f"{args.checkout}: no pipeline jobs in {', '.join(_FOLDERS)}", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    rows = []
    shutil.rmtree(args.work, ignore_errors=True)
    options = Options(images=images, cores=os.cpu_count() or 1)
    with emulating(args.work, DockerBackend(), options, tools=TOOLS) as plane:
        for path in paths:
            row = submit(plane, path, str(path.relative_to(args.checkout)))
            rows.append(row)
            print(f"{row.verdict:<13} {row.path}", flush=True)
            if row.words:
                print(f"{'':13} - {row.words[:300]}", flush=True)
    found = Counter(row.verdict for row in rows)
    print(f"\n{len(rows)} pipeline jobs: {', '.join(f'{count} {verdict}' for verdict, count in sorted(found.items()))}")
    return 1 if found["wrong"] else 0


def jobs(checkout: Path) -> Iterator[Path]:
    """Yield the files of pipeline jobs; pipeline components say that they are of another schema."""
    for folder in _FOLDERS:
        for path in sorted((checkout / folder).rglob("*.y*ml")):
            with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
                document = yaml.safe_load(path.read_text(encoding="utf-8"))
                if isinstance(document, dict) and document.get("type") == "pipeline" and not _is_component(document):
                    yield path


def _is_component(document: dict[str, Any]) -> bool:
    return "pipelineComponent" in str(document.get("$schema", "")) or "version" in document


def submit(plane: Plane, path: Path, shown: str) -> Row:
    """Submit one job by the real client and wait for its end."""
    from azure.ai.ml import load_job

    with connect(plane.folder) as client:
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                name = str(client.jobs.create_or_update(load_job(path)).name)
        except Exception as error:  # noqa: BLE001 - whatever the client raises is one row of the table
            words = " ".join(_COLOUR.sub("", str(error)).split())
            known = [verdict for text, verdict in _KNOWN.items() if text in words]
            return Row(shown, known[0] if known else "wrong", f"{type(error).__name__}: {words}")
        done = plane.wait(name, _LONGEST)
        if done.status not in ("Completed", "Failed"):
            client.jobs.begin_cancel(name).result()
            return Row(shown, "wrong", f"was {done.status} after {_LONGEST:g} s")
    if done.status == "Completed":
        return Row(shown, "completed", f"{len(plane.records.children(name))} nodes")
    nodes = plane.records.children(name)
    return Row(
        shown,
        "failed" if nodes else "refused",
        f"{done.error} ({_last_words(plane, name)})" if nodes else str(done.error),
    )


def _last_words(plane: Plane, job: str) -> str:
    """Return the last line that the first failed node printed."""
    for run in plane.records.children(job):
        log = plane.folder / "jobs" / "jobs" / job / "runs" / run.id / "std_log.txt"
        if run.status == "Failed" and log.is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[-1] if lines else "no output"
    return "before it ran"


if __name__ == "__main__":
    sys.exit(main())

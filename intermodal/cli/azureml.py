"""`intermodal azureml emulate [JOB.yml ...]`: an AzureML workspace on this machine.

Without a job file it serves until Ctrl-C. With job files it runs them, one after another, and exits with 0 if all completed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from intermodal.cli.backends import add_backend_argument, chosen_backend
from intermodal.cli.terminal import dying_tidily
from intermodal.cli.text import duration, printable
from intermodal.errors import BadInput, EnvironmentProblem, ExitCode
from intermodal.settings import Settings, find_project

if TYPE_CHECKING:
    from intermodal.backends.azureml.emulator.plane import Plane
    from intermodal.backends.azureml.emulator.records import Run

HELP = "an AzureML workspace on this machine, for the real client and for job files"
_TAIL = 20
"""Lines of a failed run's log that are shown."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("emulate",), help="emulate: open the workspace")
    parser.add_argument("jobs", nargs="*", type=Path, metavar="JOB.yml", help="job files to run, as `az ml` takes them")
    parser.add_argument("--folder", type=Path, help="the workspace's own folder (default: azureml in the state folder)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port on 127.0.0.1 (default: any)")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="ENVIRONMENT=IMAGE",
        help="run this image instead of an environment (its name or its image; `*` for all others)",
    )
    parser.add_argument(
        "--compute", action="append", metavar="NAME", help="a cluster that there is (default: one of any name)"
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="JSON list of faults to play, see docs/azureml.md")
    add_backend_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Return 0, or 1 if a job did not complete."""
    try:
        from intermodal.backends.azureml.emulator.emulate import emulating, load_job_file
        from intermodal.backends.azureml.emulator.execution.host import Options
        from intermodal.backends.azureml.emulator.faults import read_faults
    except ImportError as error:
        raise EnvironmentProblem(
            f"the emulator needs the Python package {error.name}", hint="pip install 'intermodal[emulator]'"
        ) from error

    images = _images(args.image)
    jobs = [(path, load_job_file(path)) for path in args.jobs]  # all, before anything starts
    faults = read_faults(args.faults) if args.faults else []
    backend = chosen_backend(args.backend, find_project(Path.cwd()), args.state, Settings())
    with (
        dying_tidily(),
        emulating(
            args.folder or args.state / "azureml",
            backend,
            Options(images=images, cores=os.cpu_count() or 1),
            tools=args.state / "tools",
            port=args.port,
            computes=args.compute,
            faults=faults,
        ) as plane,
    ):
        if not jobs:
            return _serve(plane)
        completed = [_run_job(plane, path, job) for path, job in jobs]
    return ExitCode.OK if all(completed) else ExitCode.RUN_FAILED


def _images(given: list[str]) -> Mapping[str, str]:
    images = {}
    for item in given:
        name, equals, image = item.rpartition("=")
        if not (name and equals and image):
            raise BadInput(f"--image {item}: expected ENVIRONMENT=IMAGE")
        images[name] = image
    return images


def _serve(plane: Plane) -> int:
    print(f"workspace  {plane.workspace}")
    print(f"at         {plane.space.address} (certificate authority: {plane.authority})")
    print(f"MLflow     {plane.space.address}/mlflow/v1.0{plane.workspace}")
    print(f"A pipeline:  intermodal submit PIPELINE --emulator {plane.folder} --wait")
    print("In Python, Microsoft's own client:")
    print("    from intermodal.backends.azureml.emulator.client import connect")
    print(f"    with connect({str(plane.folder)!r}) as client:")
    print("        client.jobs.create_or_update(job)")
    print("Ctrl-C stops it, and the jobs that run.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    return ExitCode.OK


def _run_job(plane: Plane, path: Path, job: object) -> bool:
    """Run one job file, say what becomes of it, and return whether it completed. Ctrl-C cancels it."""
    from intermodal.backends.azureml.emulator.client import connect
    from intermodal.backends.azureml.emulator.emulate import cancel, follow, submit_job

    with connect(plane.folder, show_progress=False) as client:
        name = submit_job(client, job, path)
    print(f"{path}: job {name}", flush=True)
    try:
        ended = follow(plane, name, _tell)
    except BaseException:
        print("cancelling", file=sys.stderr, flush=True)
        cancel(plane, name)
        raise
    for port, uri in ended.outputs.items():
        print(f"  {port}: {uri}")
    return ended.status == "Completed"


def _tell(run: Run) -> None:
    lasted = f" in {duration((run.ended or time.time()) - run.started)}" if run.started and run.ended else ""
    name = run.node or run.id
    print(f"  {name}: {run.status}{lasted}{f': {run.error}' if run.error else ''}", flush=True)
    if run.status == "Failed" and run.log:
        _print_tail(run)


def _print_tail(run: Run) -> None:
    try:
        lines = Path(str(run.log)).read_bytes().splitlines()
    except OSError:
        return
    for line in lines[-_TAIL:]:
        print(f"    | {printable(line)}")

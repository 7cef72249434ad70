"""What `run`, `resume` and `replay` share: signals while a run goes on, and what is printed at its end."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from intermodal.cli.text import printable
from intermodal.engine.runner import Runner
from intermodal.engine.session import Result, Session
from intermodal.engine.states import State
from intermodal.errors import ExitCode
from intermodal.report import REPORT, report_end

_LONGEST_PAGE = 256 * 1024


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `stop` while the body runs."""
    handlers = {
        number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def execute(session: Session, runner: Runner) -> Result:
    """Run to the end with signals turned into a stop of the run, and write the run's report."""
    with stopping(runner.stop):
        result = session.execute(runner)
        problem = report_end(session.state, runner.run_id, runner.graph.pipeline)
    if problem:
        print(f"note: {printable(problem.encode(), None)}", file=sys.stderr)
    return result


def exit_code(state: State) -> int:
    if state.green:
        return ExitCode.OK
    return ExitCode.CANCELLED if state is State.CANCELLED else ExitCode.RUN_FAILED


def print_result(result: Result, tracked: str | None, *, as_json: bool) -> None:
    """Print the pipeline's Markdown outputs as text, then where everything is; or the result as one JSON document.

    `tracked` is where it can be seen in MLflow, empty if it is not there yet, None if it is not to be.
    """
    if as_json:
        _print_json(result, tracked)
        return
    _print_markdown(result)
    word = {State.SUCCEEDED: "succeeded", State.CACHED: "succeeded, all of it cached"}.get(
        result.state, result.state.value.lower()
    )
    print(f"run {result.run_id} {word}")
    for name, path in result.files.items():
        print(f"  {name}: {path}")
    if (result.folder / REPORT).is_file():
        print(f"  all of it: {result.folder / REPORT}")
    if tracked is not None:
        print(f"  tracked: {tracked or f'later, or with: intermodal tracking sync {result.run_id}'}")
    if not result.state.green:
        print(f"  why: intermodal show {result.run_id}")
        print(f"  go on: intermodal resume {result.run_id}")


def _print_json(result: Result, tracked: str | None) -> None:
    document = {
        "run": result.run_id,
        "state": result.state.value,
        "folder": str(result.folder),
        "parameters": dict(result.outputs.parameters),
        "artifacts": {name: str(path) for name, path in result.files.items()},
        **({"tracking": tracked} if tracked is not None else {}),
        "report": str(result.folder / REPORT) if (result.folder / REPORT).is_file() else None,
    }
    print(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))


def _print_markdown(result: Result) -> None:
    pages = [path for path in result.files.values() if path.suffix == ".md"]
    if not pages:
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=None if sys.stdout.isatty() else 140)
    for path in pages:
        if path.stat().st_size > _LONGEST_PAGE:
            continue  # its path is printed below
        lines = path.read_bytes().splitlines()
        # A step wrote it: no control characters, and a link shows where it leads.
        console.print(Markdown("\n".join(printable(line, None) for line in lines), hyperlinks=False))
        console.print()

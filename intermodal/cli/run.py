"""`intermodal run`: run a pipeline on this machine.

Exit 0 only if every task that ran is green. Ctrl-C (or SIGTERM) stops the containers, then the run; a second one at once.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from intermodal.cli.backends import add_backend_argument, make_backend
from intermodal.cli.progress import progress
from intermodal.cli.sources import Source, load_source, read_values
from intermodal.engine.options import Options
from intermodal.engine.runner import Runner
from intermodal.engine.session import Request, Result, Session
from intermodal.engine.states import State
from intermodal.errors import BadInput, ExitCode
from intermodal.settings import find_project, load_settings

HELP = "run a pipeline on this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, help="a Python file with a @dsl.pipeline, or compiled IR YAML")
    parser.add_argument("--pipeline", dest="name", metavar="NAME", help="which pipeline of the file, if it has several")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with argument values; --arg wins over it"
    )
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument; lists and structs as JSON, artifacts as paths",
    )
    add_backend_argument(parser)
    parser.add_argument("--no-cache", action="store_true", help="run every task, whatever ran before")
    parser.add_argument("--fail-fast", action="store_true", help="start nothing more once a task failed")
    parser.add_argument(
        "--max-parallel", type=int, default=16, metavar="N", help="attempts at once at most (default: 16)"
    )
    parser.add_argument("--plain", action="store_true", help="plain lines, no live display")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")


def run(args: argparse.Namespace) -> int:
    if args.max_parallel < 1:
        raise BadInput(f"--max-parallel {args.max_parallel}: must be at least 1")
    source = load_source(args.pipeline, args.name)
    request = _request(source, read_values(args.config, args.arg), from_file=args.config is not None)
    project = find_project(args.pipeline.absolute().parent)
    options = Options(cache=not args.no_cache, fail_fast=args.fail_fast, slots=args.max_parallel)
    backend = make_backend(args.backend, project or Path.cwd(), args.state)
    with (
        Session(args.state, backend, load_settings(project), options) as session,
        progress(live=sys.stderr.isatty() and not args.plain) as observer,
    ):
        runner = session.runner(request, observer)
        observer.begin(runner.run_id, [*source.pipeline.not_applied, *backend.capabilities.notes])
        result = _execute(session, runner)
    _print_json(result) if args.json else _print_result(result)
    return _exit_code(result.state)


def _request(source: Source, values: dict[str, Any], *, from_file: bool) -> Request:
    """Return the request: values checked by the pipeline file's own `configure` if it has one, else by the declared types."""
    if source.configure is not None:
        try:
            arguments = source.configure(values)
        except ValueError as error:
            raise BadInput(str(error)) from error
        return Request(source.pipeline, arguments, configuration=arguments)
    declared = source.pipeline.root.input_parameters
    if not from_file:
        return Request(source.pipeline, values, parse=True)
    from intermodal.engine.values import parse_argument
    from intermodal.spec.types import ParameterType

    def typed(name: str, value: Any) -> Any:
        is_text = isinstance(value, str) and name in declared and declared[name].type is not ParameterType.STRING
        return parse_argument(value, declared[name], f"argument {name}") if is_text else value

    return Request(source.pipeline, {name: typed(name, value) for name, value in values.items()})


def _execute(session: Session, runner: Runner) -> Result:
    """Run with signals turned into a stop of the run."""
    handlers = {
        number: signal.signal(number, lambda *_: runner.stop())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        return session.execute(runner)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _exit_code(state: State) -> int:
    if state.green:
        return ExitCode.OK
    return ExitCode.CANCELLED if state is State.CANCELLED else ExitCode.RUN_FAILED


def _print_json(result: Result) -> None:
    document = {
        "run": result.run_id,
        "state": result.state.value,
        "folder": str(result.folder),
        "parameters": dict(result.outputs.parameters),
        "artifacts": {name: str(path) for name, path in result.files.items()},
    }
    print(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))


def _print_result(result: Result) -> None:
    """Print the pipeline's Markdown outputs as text, then where everything is."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=None if sys.stdout.isatty() else 140)
    for path in result.files.values():
        if path.suffix == ".md":
            console.print(Markdown(path.read_text(encoding="utf-8")))
            console.print()
    word = {State.SUCCEEDED: "succeeded", State.CACHED: "succeeded, all of it cached"}.get(
        result.state, result.state.value.lower()
    )
    print(f"run {result.run_id} {word}")
    for name, path in result.files.items():
        print(f"  {name}: {path}")
    if not result.state.green:
        print(f"  why: intermodal show {result.run_id}")

"""`intermodal run`: run a pipeline on this machine.

Exit 0 only if every task that ran is green. Ctrl-C (or SIGTERM) stops the containers, then the run; a second one at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from intermodal.cli.backends import add_backend_argument, chosen_backend
from intermodal.cli.executing import execute, exit_code, print_result
from intermodal.cli.progress import progress
from intermodal.cli.records import open_database
from intermodal.engine.options import Options, parse_seconds
from intermodal.engine.platform import ConfigFolders
from intermodal.engine.session import Request, Session
from intermodal.errors import BadInput
from intermodal.settings import Settings, load_settings, overlay, override
from intermodal.sources import load_source, read_values
from intermodal.tracking.following import Following, tracker_of
from intermodal.tracking.target import SWITCH

HELP = "run a pipeline on this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    add_request_arguments(parser)
    parser.add_argument("--fail-fast", action="store_true", help="start nothing more once a task failed")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="TIME", help="stop the run after this long, e.g. 90s, 30m, 2h"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report of the run for CI")
    parser.add_argument(
        "--track", action=argparse.BooleanOptionalAction, help="send the run to MLflow, or do not (docs/tracking.md)"
    )
    parser.add_argument("--plain", action="store_true", help="plain lines, no live display")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says what to run, and from which cache: the part that `run` and `plan` share."""
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
    parser.add_argument(
        "--no-cache-task", action="append", default=[], metavar="TASK", help="run this task (a name, or a path) even so"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="URI=DIR",
        help="import from this folder what lies below a URI, e.g. gs://bucket/data=./data",
    )
    parser.add_argument(
        "--max-parallel", type=int, default=16, metavar="N", help="attempts at once at most (default: 16)"
    )
    parser.add_argument(
        "--success-word",
        choices=("COMPLETE", "SUCCEEDED"),
        default="COMPLETE",
        help="what PipelineTaskFinalStatus says of a task that succeeded: as KFP's open-source backend (default) or as its docs",
    )
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="[COMPONENT=]KIND",
        help="none, tracking or bridge: the network that steps may reach (default: what the project's settings say, else none)",
    )
    parser.add_argument(
        "--relax",
        action="append",
        default=[],
        metavar="[COMPONENT=]WHAT,...",
        help="spare steps a part of the container contract: writable-root, image-user, root, capabilities; kept in the run's record",
    )
    for name, what in (("secrets", "secrets"), ("config-maps", "config maps")):
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="DIR",
            help=f"where {what} are: a folder each, a file for each key (default: {name} in the state folder)",
        )


def read_options(args: argparse.Namespace) -> Options:
    """Return the options that `run` and `plan` share. Raises BadInput."""
    if args.max_parallel < 1:
        raise BadInput(f"--max-parallel {args.max_parallel}: must be at least 1")
    folders = ConfigFolders(
        (args.secrets or args.state / "secrets").absolute(), (args.config_maps or args.state / "config-maps").absolute()
    )
    return Options(
        cache=not args.no_cache,
        no_cache_tasks=frozenset(args.no_cache_task),
        slots=args.max_parallel,
        configs=folders,
        places=tuple(map(_place, args.map)),
        success_word=args.success_word,
    )


def _place(written: str) -> tuple[str, Path]:
    """Return the URI and the folder of `--map URI=DIR`. Raises BadInput."""
    uri, separator, folder = written.rpartition("=")
    if not separator or "://" not in uri or not folder:
        raise BadInput(f"--map {written!r}: expected URI=DIR, e.g. gs://bucket=./data")
    path = Path(folder).expanduser().absolute()
    if not path.exists():
        raise BadInput(f"--map {written!r}: {path} does not exist")
    return uri, path


def read_settings(args: argparse.Namespace, request: Request) -> Settings:
    """Return the project's settings with the words of the command line over them. Raises BadInput."""
    names = request.pipeline.container_components
    return override(load_settings(request.project), network=args.network, relax=args.relax, components=names)


def read_request(args: argparse.Namespace) -> Request:
    """Return what to run. Raises BadInput."""
    values = read_values(args.config, args.arg)
    return load_source(args.pipeline, args.name).request(values, "text" if args.config is None else "file")


def run(args: argparse.Namespace) -> int:
    options = replace(read_options(args), fail_fast=args.fail_fast, timeout=args.timeout)
    request = read_request(args)
    settings, environment = read_settings(args, request), dict(os.environ)
    if args.track is not None:  # the word of the command line goes before all others, and `resume` heeds it
        settings = overlay(settings, {"tracking": {"enabled": args.track}})
        environment.pop(SWITCH, None)
    backend = chosen_backend(args.backend, request.project, args.state, settings)
    tracker = tracker_of(settings, args.state, environment)
    with (
        Session(args.state, backend, settings, options, tracker=tracker) as session,
        progress(live=sys.stderr.isatty() and not args.plain) as observer,
    ):
        with _patience("reading the content of the images, which is done once for each; large ones take a while"):
            runner = session.runner(request, observer)
        tracking = Following(settings, session.state, runner.run_id, environment)
        observer.begin(runner.run_id, [*session.notes(request.pipeline), *tracking.notes])
        observer.watch(runner.graph, runner.usage)
        result = execute(session, runner)
        tracked = tracking.end()
    if args.junit is not None:
        from intermodal.engine.layout import StateFolder
        from intermodal.junit import write_junit
        from intermodal.results import read_run

        database = open_database(args.state)
        try:
            write_junit(read_run(database, StateFolder.at(args.state), result.run_id, request.pipeline), args.junit)
        finally:
            database.close()
    print_result(result, tracked, as_json=args.json)
    if settings.tracking.register_as and tracked is not None and result.state.green:
        from intermodal.cli.register import register_end

        register_end(args.state, result.run_id, settings.tracking.register_as)
    return exit_code(result.state)


@contextmanager
def _patience(words: str) -> Iterator[None]:
    """Say what is done here if it takes longer than people wait without a word."""
    told = threading.Timer(3.0, print, [words], {"file": sys.stderr, "flush": True})
    told.daemon = True
    told.start()
    try:
        yield
    finally:
        told.cancel()


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(error.message) from error

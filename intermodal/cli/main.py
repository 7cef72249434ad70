"""The command `intermodal`: finds the verb, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, cast

from intermodal import __version__
from intermodal.engine.failure import no_space
from intermodal.errors import EnvironmentProblem, ExitCode, IntermodalError


class Verb(Protocol):
    """What each module of this package beside this one gives."""

    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


VERBS = {
    "run": "run a pipeline on this machine",
    "submit": "send a pipeline to AzureML or Kubeflow, and follow it",
    "cancel": "stop a run that goes on, here or elsewhere",
    "fetch": "bring the outputs and logs of a run that went on elsewhere",
    "resume": "go on with a run that was stopped, killed, or failed",
    "plan": "say what a run would do: what is cached, what runs and why",
    "runs": "list the runs of this state folder",
    "show": "show a run: its tasks, failures and outputs",
    "why": "say why a task ran, or was cached, skipped or failed",
    "diff": "compare two runs task by task: states, times, parameters, inputs, outputs, metrics, images",
    "find": "find one MLflow run by identity, by what it made or read, or by what it says of itself",
    "index": "bring the local index of MLflow runs in step with the tracking server (--rebuild: read all of it again)",
    "lineage": "say what an artifact was made from, and what was made of it, in all runs of the tracking server",
    "register": "register a run's champion as a version of an MLflow model, with lineage and model card",
    "logs": "print or follow the logs of tasks",
    "report": "write the report of a run, one HTML file",
    "shell": "open a shell where a task ran, as it was",
    "replay": "run exactly one task of a run again and compare",
    "verify": "check every stored artifact against its digest",
    "gc": "remove what nothing needs any more (says only what, unless --yes)",
    "backup": "keep state volumes (studies) at another place",
    "restore": "bring state volumes (studies) back from a backup",
    "compile": "compile a pipeline to IR YAML or to an AzureML pipeline job",
    "azureml": "an AzureML workspace on this machine, for the real client and for job files",
    "tracking": "the MLflow server of this state folder, and what it has of the runs",
    "doctor": "explain what this machine lacks",
    "engine": "make sure that a container engine answers",
    "build": "build the step images",
    "completion": "print a completion script for bash or zsh",
}
"""Verb -> help; the module of that name is imported only when the verb is used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in given if not word.startswith("-")), None)
    parser = make_parser([name] if name in VERBS else [])
    args = parser.parse_args(given)
    try:
        return int(args.run(args))
    except IntermodalError as error:
        return _report(error, debug=args.debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if not no_space(error):
            raise
        return _report(_disk_full(error), debug=args.debug)
    except KeyboardInterrupt:
        return ExitCode.CANCELLED


def make_parser(chosen: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser, in which only the chosen verbs know their options: each must be imported for that."""
    parser = argparse.ArgumentParser(
        prog="intermodal",
        description="Run Kubeflow pipelines of containers on this machine, truthfully.",
        epilog="exit codes: 0 done · 1 a task failed · 2 bad input · 3 the machine lacks something · 4 not supported · 130 stopped",
    )
    parser.add_argument("--version", action="version", version=f"intermodal {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, help_text in VERBS.items():
        sub = verbs.add_parser(name, help=help_text, description=help_text)
        sub.add_argument("--debug", action="store_true", help="print a traceback for an error")
        sub.add_argument(
            "--state",
            type=Path,
            default=Path(os.environ.get("INTERMODAL_STATE", ".intermodal")),
            metavar="DIR",
            help="where runs, artifacts and the cache are kept (default: .intermodal, or $INTERMODAL_STATE)",
        )
        if name in chosen:
            verb = cast(Verb, importlib.import_module(f"intermodal.cli.{name}"))
            verb.configure(sub)
            sub.set_defaults(run=verb.run)
    return parser


def _disk_full(error: OSError) -> EnvironmentProblem:
    problem = EnvironmentProblem(
        f"no space left on the disk{f' ({error.filename})' if error.filename else ''}",
        hint="make room; `intermodal resume` goes on with a run that had begun",
    )
    problem.__cause__ = error
    return problem


def _report(error: IntermodalError, *, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return int(error.exit_code)


def entry() -> NoReturn:
    """Entry point of the installed command."""
    raise SystemExit(main())

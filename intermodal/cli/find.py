"""`intermodal find [IDENTITY]`: the one MLflow run that is what is asked for, or what comes near it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from intermodal.cli.text import duration
from intermodal.errors import BadInput
from intermodal.tracking.find import FoundRun, NotOneRun, find_mlflow_run, find_mlflow_runs

HELP = "find one MLflow run by identity, by what it made or read, or by what it says of itself"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 found · 1 no run or several (the nearest are listed) · 2 bad input · 3 the server does not answer"
    parser.add_argument(
        "identity", nargs="?", metavar="IDENTITY", help="a fingerprint, its start, or a run's name that ends with it"
    )
    parser.add_argument("--produced", metavar="DIGEST", help="the task that wrote this artifact (sha256, or its start)")
    parser.add_argument("--consumed", metavar="DIGEST", help="the task that read this artifact")
    parser.add_argument("--kind", choices=("pipeline", "task", "trial"), help="what kind of run")
    parser.add_argument(
        "--run", dest="run_id", metavar="RUN", help="the run that it belongs to, as `intermodal runs` lists it"
    )
    parser.add_argument("--task", metavar="PATH", help="the task, as `intermodal show` prints it")
    parser.add_argument("--run-state", metavar="STATE", help="SUCCEEDED, FAILED, CANCELLED ...")
    parser.add_argument("--pipeline", metavar="NAME")
    parser.add_argument("--component", metavar="NAME")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter's value (repeatable)"
    )
    parser.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="a tag's value (repeatable)")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="COMPARISON",
        help="such as 'validation_macro_f1>=0.9' (repeatable)",
    )
    parser.add_argument("--cached", action="store_true", help="count tasks that took another run's result, too")
    parser.add_argument("--all", action="store_true", help="list all that are it, instead of asking for one")
    parser.add_argument("--offline", action="store_true", help="ask the local index alone, and say how old it is")
    parser.add_argument("--json", action="store_true", help="print what was found, or the near misses, as JSON")


def run(args: argparse.Namespace) -> int:
    look = find_mlflow_runs if args.all else find_mlflow_run
    try:
        found = look(
            args.identity,
            produced=args.produced,
            consumed=args.consumed,
            kind=args.kind,
            run=args.run_id,
            task=args.task,
            state=args.run_state,
            pipeline=args.pipeline,
            component=args.component,
            params=_pairs(args.param),
            tags=_pairs(args.tag),
            metrics=args.metric,
            cached=args.cached,
            state_folder=args.state,
            refresh=not args.offline,
        )
    except NotOneRun as error:
        if args.json:
            near = [{"id": item.id, "name": item.name, "differs": dict(item.differs)} for item in error.near]
            print(json.dumps({"error": error.message, "near": near}, indent=2, ensure_ascii=False))
        raise
    runs = found if isinstance(found, list) else [found]
    if args.offline and runs and runs[0].index_age is not None:
        print(f"the index is {duration(runs[0].index_age)} old", file=sys.stderr)
    if args.json:
        documents = [as_json(item) for item in runs]
        print(json.dumps(documents if args.all else documents[0], indent=2, ensure_ascii=False))
        return 0
    for item in runs:
        print(line_of(item)) if args.all else _print(item)
    return 0


def as_json(found: FoundRun) -> dict[str, Any]:
    times = {
        name: value.isoformat() if value else None
        for name, value in (("started", found.started), ("ended", found.ended))
    }
    return {**asdict(found), **times, "url": found.url}


def line_of(found: FoundRun) -> str:
    what = f"{found.run} {found.task}".strip() or found.name
    return f"{found.id}  {found.state or found.status:<9}  {found.started.astimezone():%Y-%m-%d %H:%M:%S}  {what}"


def _print(found: FoundRun) -> None:
    print(line_of(found))
    for title, values in (
        ("identity", found.fingerprint),
        ("params", " ".join(f"{name}={value}" for name, value in found.params.items())),
        ("metrics", " ".join(f"{name}={value}" for name, value in found.metrics.items())),
        ("inputs", " ".join(f"{name}={','.join(digests)}" for name, digests in found.inputs.items())),
        ("outputs", " ".join(f"{name}={','.join(digests)}" for name, digests in found.outputs.items())),
        ("page", found.url),
    ):
        if values:
            print(f"  {title:<9} {values}")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for name, sign, _ in pairs:
        if not name or not sign:
            raise BadInput(f"{name!r}: expected NAME=VALUE")
    return {name: value for name, _, value in pairs}

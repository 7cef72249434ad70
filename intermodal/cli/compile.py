"""`intermodal compile`: a pipeline to IR YAML, which Kubeflow takes as it is, or to an AzureML pipeline job."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intermodal.errors import BadInput

HELP = "compile a pipeline to IR YAML or to an AzureML pipeline job"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, help="a Python file with a @dsl.pipeline, or compiled IR YAML")
    parser.add_argument("--pipeline", dest="name", metavar="NAME", help="which pipeline of the file, if it has several")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PATH", help="the YAML file or, for azureml, the folder"
    )
    parser.add_argument(
        "--backend",
        choices=("kubeflow", "azureml"),
        default="kubeflow",
        help="kubeflow: IR YAML (default); azureml: job, components, launcher, REST bodies and report",
    )
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")
    add_job_arguments(parser)


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an AzureML job is made of: the part that `compile` and `submit` share."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with argument values; --arg wins over it"
    )
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument; lists and structs as JSON, artifacts as paths or azureml:// addresses",
    )
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="GAP",
        help="compile although AzureML cannot keep this: exit-after-kill, infrastructure-retry, loop-bound, cache-key, workspace",
    )
    parser.add_argument("--success-word", choices=("COMPLETE", "SUCCEEDED"), default="COMPLETE", help="as for `run`")


def run(args: argparse.Namespace) -> int:
    if args.backend == "azureml":
        return _azureml(args)
    from intermodal.backends.azureml.requests import read_image_lock
    from intermodal.backends.kubeflow.images import name_images
    from intermodal.settings import find_project
    from intermodal.sources import compile_file
    from intermodal.spec.load import load_pipeline

    if args.arg or args.config or args.accept:
        raise BadInput("IR YAML is compiled without arguments", hint="give them when it is run, or --backend azureml")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    compile_file(args.pipeline, args.output, args.name)
    images = read_image_lock(find_project(args.pipeline.absolute().parent))
    open_images = name_images(args.output, images)
    pipeline = load_pipeline(args.output)
    made = {"pipeline": pipeline.name, "components": len(pipeline.components), "digest": f"sha256:{pipeline.digest}"}
    notes = [
        f"image {image} has no digest: the cluster pulls what it finds under that name"
        for image in (open_images if images else ())
    ]
    if args.json:
        return _print_json(args.output, made, notes)
    print(f"{args.output}: {pipeline.name}, {len(pipeline.components)} components, sha256:{pipeline.digest[:16]}")
    for text in notes:
        print(f"  note: {text}")
    return 0


def _print_json(output: Path, made: dict[str, Any], notes: Sequence[str]) -> int:
    print(json.dumps({"output": str(output), **made, "notes": list(notes)}, indent=2, ensure_ascii=False))
    return 0


def _azureml(args: argparse.Namespace) -> int:
    from intermodal.backends.azureml.compile import write
    from intermodal.backends.azureml.requests import compile_request

    compiled = compile_request(args, os.environ)
    write(compiled, args.output)
    report = compiled.report
    if args.json:
        made = {"pipeline": report.pipeline, "components": len(compiled.lowered.shapes), "nodes": dict(report.nodes)}
        return _print_json(args.output, made, report.warnings)
    print(f"{args.output}: {report.pipeline}, {len(report.nodes)} nodes, {len(compiled.lowered.shapes)} components")
    for warning in report.warnings:
        print(f"  note: {warning}")
    print(f"  report: {args.output / 'report.md'}")
    print(f"  submit: az ml job create -f {args.output / 'job.yml'}")
    return 0

"""`intermodal compile`: a pipeline file to IR YAML, which Kubeflow takes as it is."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "compile a pipeline file to IR YAML"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, help="a Python file with a @dsl.pipeline")
    parser.add_argument("--pipeline", dest="name", metavar="NAME", help="which pipeline of the file, if it has several")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the YAML file to write")


def run(args: argparse.Namespace) -> int:
    from intermodal.sources import compile_file
    from intermodal.spec.load import load_pipeline

    args.output.parent.mkdir(parents=True, exist_ok=True)
    compile_file(args.pipeline, args.output, args.name)
    pipeline = load_pipeline(args.output)
    print(f"{args.output}: {pipeline.name}, {len(pipeline.components)} components, sha256:{pipeline.digest[:16]}")
    return 0

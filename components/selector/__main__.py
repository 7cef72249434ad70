"""Step selector: `python -m components.selector ...`; `keep` leaves one variant of a bundle, where there is nothing to choose."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from components.kfp_io import StepError, artifact_list, run_step, write_json
from components.selector.candidates import Candidate, read_candidates, read_noise
from components.selector.champion import Recipe, keep_variant, write_champion
from components.selector.evidence import weigh
from components.selector.report import page, record, summary
from components.selector.rule import Rule, select

RECIPE = tuple(field.name for field in fields(Recipe))


def main(argv: Sequence[str]) -> None:
    """Run one of the commands. Raises StepError."""
    parser = argparse.ArgumentParser(prog="selector", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_choose(commands.add_parser("choose", help="choose among the candidates that were measured"))
    keep = commands.add_parser("keep", help="keep one variant of a bundle")
    keep.add_argument("--bundle", type=Path, required=True)
    keep.add_argument("--variant", required=True, help="fp32 or int8")
    keep.add_argument("--champion", type=Path, required=True, help="output: the bundle with that variant alone")
    args = parser.parse_args(argv)
    if args.command == "keep":
        keep_variant(args.bundle, args.variant, args.champion)
        print(f"kept {args.variant}")
    else:
        _choose(args)


def _add_choose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executor-input", required=True, help="KFP's ExecutorInput as JSON; names the bundles")
    parser.add_argument("--benchmark", type=Path, required=True, help="the benchmarker's JSON file")
    parser.add_argument(
        "--tolerance", type=float, required=True, help="validation macro-F1 below the best that is still good"
    )
    parser.add_argument("--latency-budget-ms", type=float, default=0.0, help="0: none")
    parser.add_argument("--percentile", choices=("p50", "p95"), default="p50", help="which latency counts")
    parser.add_argument("--champion", type=Path, required=True)
    parser.add_argument("--summary", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--decision", type=Path, required=True)
    for name in RECIPE:
        parser.add_argument(
            f"--{name}", type=Path, required=True, help=f"output: the champion's {name}, to make it again"
        )


def _choose(args: argparse.Namespace) -> None:
    """Choose, and write the champion, the summary, the report, the decision and the recipe."""
    rule = Rule(args.tolerance, args.latency_budget_ms, args.percentile)
    candidates = read_candidates(args.benchmark)
    choice = select(candidates, rule)
    evidence = weigh(choice, rule, read_noise(args.benchmark))
    bundle = _bundle(args.executor_input, choice.champion)
    recipe = write_champion(bundle, choice.champion, args.champion)
    texts = {
        args.summary: summary(choice, rule, evidence),
        args.report: page(choice, rule, evidence),
        args.backbone: recipe.backbone,
        args.variant: recipe.variant,
    }
    for path, content in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    write_json(args.decision, record(choice, rule, evidence))
    write_json(args.hyperparameters, recipe.hyperparameters)
    write_json(args.training, recipe.training)
    write_json(args.conversion, recipe.conversion)
    print(f"champion: {choice.champion.name}; {choice.why}")


def _bundle(executor_input: str, champion: Candidate) -> Path:
    """Return the folder of the champion's bundle, found by what its manifest says."""
    for artifact in artifact_list(executor_input, "bundles"):
        path = artifact.path / "manifest.json"
        if not path.is_file():
            raise StepError(f"{artifact.path}: is not a bundle (no manifest.json)")
        if json.loads(path.read_text(encoding="utf-8"))["backbone"] == champion.backbone:
            return artifact.path
    raise StepError(f"the champion {champion.name} is in none of the bundles")


if __name__ == "__main__":
    run_step(main)

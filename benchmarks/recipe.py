"""`python -m benchmarks.recipe DATA`: entity F1 on the validation split of DATA for recipes of the trainer, each with several seeds.

DATA is a data folder, such as one of WNUT17; needs `make images`. A pipeline of the factory's own steps, whose results are cached in
`--state`: what was stopped goes on. The scores are those of the epoch with the best validation macro-F1, as the trainer keeps it.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp import dsl

import intermodal
from components.backbone.component import backbone, fetch, gather
from components.dataset.component import dataset
from components.trainer.component import trainer

_WINDOW = {"max_tokens": 128, "stride": 32}
_RATES = {"learning_rate": 1e-4, "head_rate": 10, "layer_decay": 0.9}
_HIDDEN = {**_RATES, "word_dropout": 0.1}
RECIPES: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
    "four plain epochs": ({"learning_rate": 3e-4}, {"epochs": 4, "patience": 0}),
    "six epochs, a slow backbone under a fast classifier": (_RATES, {"epochs": 6, "patience": 0}),
    "and a tenth of the words hidden": (_HIDDEN, {"epochs": 6, "patience": 0}),
    "and a conditional random field": (_HIDDEN, {"epochs": 6, "patience": 0, "crf": True}),
}
"""Hyperparameters and training settings by name; each from the third on adds to the one before."""


@dsl.pipeline(name="recipes")
def recipes(data: dsl.Input[dsl.Dataset], runs: list, name: str = "minilm", cpus: int = 2, hub: list = []):  # noqa: ANN201, B006 - KFP reads them
    documents = dataset(data=data)
    with dsl.ParallelFor(hub, name="downloads") as wanted:
        fetched = fetch(name=wanted, endpoint="")
    start = backbone(
        name=name, fetched=gather(fetched=dsl.Collected(fetched.outputs["model"])).outputs["model"], seed=13
    )
    with dsl.ParallelFor(runs, name="trainings", parallelism=1) as run:
        trainer(
            dataset=documents.outputs["dataset"],
            backbone=start.outputs["model"],
            hyperparameters=run.hyperparameters,
            training=run.training,
            seed=run.seed,
            threads=cpus,
        )


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.recipe", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 14, 15])
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--backend", default="docker")
    parser.add_argument("--state", type=Path, default=Path(".intermodal/recipes"))
    args = parser.parse_args()
    runs = [
        {"hyperparameters": dict(RECIPES[name][0]), "training": {**_WINDOW, **RECIPES[name][1]}, "seed": seed}
        for name in args.only
        for seed in args.seeds
    ]
    arguments = {"data": args.data, "runs": runs, "name": args.backbone, "cpus": args.cpus}
    done = intermodal.run(recipes, arguments, state=args.state, backend=args.backend)
    scores = [task.outputs["metrics"].metadata for task in done.find("trainer")]
    print(f"| {args.backbone} | micro-F1 | macro-F1 | epochs |\n| --- | --- | --- | --- |")
    for number, name in enumerate(args.only):
        mine = scores[number * len(args.seeds) : (number + 1) * len(args.seeds)]
        epochs = "/".join(f"{score['best_epoch']:.0f}" for score in mine)
        print(f"| {name} | {_mean(mine, 'validation_micro_f1')} | {_mean(mine, 'validation_macro_f1')} | {epochs} |")


def _mean(scores: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [float(score[name]) for score in scores]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


if __name__ == "__main__":
    main()

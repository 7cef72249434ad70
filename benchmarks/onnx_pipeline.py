"""PyTorch and the INT8 files by turns, on the same documents: a host that changes its speed changes it for both."""

from typing import Any, NamedTuple

from kfp import dsl

from components.backbone.component import backbone, fetch, gather
from components.benchmarker.component import baseline, benchmarker
from components.converter.component import converter
from components.dataset.component import dataset
from components.selector.component import keep
from components.trainer.component import trainer
from pipelines.experiment import load_experiment, to_arguments

_HYPERPARAMETERS = {"learning_rate": 2e-4, "batch_size": 8, "dropout": 0.1, "weight_decay": 0.01}
"""In the middle of the default search space: what is searched for changes no speed."""
_REQUESTS = 40
_SETTINGS = {"rounds": 1, "requests": _REQUESTS, "baseline_requests": _REQUESTS, "cold_starts": 1, "offline_batch": 0}
_CPUS = 2


def turns(pairs: int):
    """Return a pipeline that trains and converts the default backbones, then measures them in an even number of `pairs` of steps, one
    step after the other. Its outputs are `pytorch_0`, `int8_0`, `pytorch_1` and so on, each the JSON file of a step.

    Of two pairs PyTorch is the first step of one and the last of the other, so a drift of the host favours neither; both have the same
    documents, the next two others.
    """
    given = to_arguments(load_experiment({}))
    names = [f"{side}_{number}" for number in range(pairs) for side in ("pytorch", "int8")]
    outputs: Any = NamedTuple("Turns", [(name, dsl.Artifact) for name in names])  # type: ignore[misc]

    def pipeline(downloads: list = []) -> outputs:  # noqa: B006 - KFP reads the default
        documents = dataset(seed=given["seed"]).outputs["dataset"]
        with dsl.ParallelFor(downloads) as name:
            fetched = fetch(name=name, endpoint="")
        none = gather(fetched=dsl.Collected(fetched.outputs["model"]))
        with dsl.ParallelFor(given["backbones"]) as name:
            start = backbone(name=name, fetched=none.outputs["model"], seed=given["seed"])
            trained = trainer(
                dataset=documents,
                backbone=start.outputs["model"],
                hyperparameters=_HYPERPARAMETERS,
                training=given["training"],
                seed=given["seed"],
                threads=_CPUS,
            )
            converted = converter(model=_sized(trained).outputs["model"], dataset=documents)
            kept = keep(bundle=_sized(converted).outputs["bundle"], variant="int8")

        def pytorch(settings: dict[str, Any]) -> dsl.PipelineTask:
            return baseline(models=dsl.Collected(trained.outputs["model"]), dataset=documents, settings=settings)

        def int8(settings: dict[str, Any], peer: dsl.PipelineTask) -> dsl.PipelineTask:
            bundles, measured = dsl.Collected(kept.outputs["champion"]), peer.outputs["measured"]
            return benchmarker(bundles=bundles, dataset=documents, baseline=measured, settings=settings)

        found: dict[str, Any] = {}
        steps: list[dsl.PipelineTask] = []
        for number in range(0, pairs, 2):
            settings = {**_SETTINGS, "seed": number}
            first = pytorch(settings)
            four = [first, int8(settings, first), int8(settings, first), pytorch(settings)]
            steps += four
            order = (f"pytorch_{number}", f"int8_{number}", f"int8_{number + 1}", f"pytorch_{number + 1}")
            for name, task in zip(order, four, strict=True):
                found[name] = task.outputs["measured" if name.startswith("pytorch") else "benchmark"]
        for task, before in zip(steps[1:], steps, strict=False):
            task.after(before)
        for task in steps:
            _sized(task).set_caching_options(False)
        return outputs(**found)

    return dsl.pipeline(name="int8-by-turns")(pipeline)


def _sized(task: dsl.PipelineTask) -> dsl.PipelineTask:
    return task.set_cpu_limit(str(_CPUS)).set_memory_limit("6Gi")

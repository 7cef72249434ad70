"""Two searches for each seed, on the same documents and the same backbone: with pruning and without."""

from typing import NamedTuple

from kfp import dsl, kubernetes

from components.backbone.component import backbone, fetch, gather
from components.dataset.component import dataset
from components.hpo.component import hpo

_SPACE = {
    "learning_rate": {"type": "loguniform", "min": 1e-4, "max": 1e-2},
    "batch_size": {"type": "choice", "values": [4, 8, 16]},
    "dropout": {"type": "uniform", "min": 0.0, "max": 0.4},
}
_TRAINING = {"epochs": 8, "patience": 0, "max_tokens": 256, "stride": 64, "mixed_precision": True}
_PLAIN_TRIALS, _PRUNED_TRIALS = 12, 24
"""A pruned search has more trials and is cut off where it reaches what the plain one did."""


class Studies(NamedTuple):
    plain: list[dsl.Artifact]
    pruned: list[dsl.Artifact]


def _search(documents: dsl.PipelineTask, start: dsl.PipelineTask, seed: int, sampler: str, pruner: str, trials: int):
    task = hpo(
        dataset=documents.outputs["dataset"],
        backbone=start.outputs["model"],
        search_space=_SPACE,
        training=_TRAINING,
        trials=trials,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        threads=1,
    )
    kubernetes.mount_pvc(task, pvc_name="studies", mount_path="/state")
    return task.set_cpu_limit("1").set_memory_limit("4Gi").outputs["study"]


def searches(seeds: list[int]):
    """Return a pipeline of the searches for each of `seeds`."""

    @dsl.pipeline(name="two-searches")
    def pipeline(data: dsl.Input[dsl.Dataset], downloads: list = []) -> Studies:  # noqa: B006 - KFP reads the default
        documents = dataset(data=data)
        with dsl.ParallelFor(downloads) as name:
            fetched = fetch(name=name, endpoint="")
        none = gather(fetched=dsl.Collected(fetched.outputs["model"]))
        start = backbone(name="minilm-3", fetched=none.outputs["model"], seed=13)
        with dsl.ParallelFor(seeds) as seed:
            plain = _search(documents, start, seed, "random", "none", _PLAIN_TRIALS)
            pruned = _search(documents, start, seed, "tpe", "asha", _PRUNED_TRIALS)
        return Studies(plain=dsl.Collected(plain), pruned=dsl.Collected(pruned))

    return pipeline

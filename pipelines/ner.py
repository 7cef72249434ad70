"""The NER model factory: data, then for each backbone search, training and conversion, then one benchmark and one choice.

`configure` makes its arguments of an experiment file (`pipelines/configs/`); the defaults here are those of configs/default.yaml,
but for what depends on the machine that compiles: CPUs (of a step, of a worker) and the address of the Hub.
"""

from typing import Any, List, NamedTuple  # noqa: UP035 - KFP reads this spelling

from kfp import dsl, kubernetes

from components.backbone.component import backbone, fetch, gather
from components.benchmarker.component import baseline, benchmarker
from components.converter.component import converter
from components.dataset.component import dataset
from components.hpo.component import hpo, hpo_worker
from components.selector.component import keep, selector
from components.trainer.component import trainer
from pipelines.experiment import load_experiment, to_arguments


class Outputs(NamedTuple):
    champion: dsl.Model
    summary: dsl.Markdown
    report: dsl.HTML
    benchmark: dsl.Artifact
    decision: dict
    refitted: List[dsl.Model]  # noqa: UP006


_DEFAULTS = to_arguments(load_experiment({}))


def configure(values: dict[str, Any]) -> dict[str, Any]:
    """Return the pipeline's arguments for the user's values. Raises ValueError with one line for the user."""
    return to_arguments(load_experiment(values))


def _sized(task: dsl.PipelineTask, cpus: int) -> None:
    """Give the task the CPUs of the run; memory is a limit that any of them stays far below on the default data."""
    task.set_cpu_request(cpus).set_cpu_limit(cpus).set_memory_request("2Gi").set_memory_limit("6Gi")


def _trains(task: dsl.PipelineTask, cpus: int) -> None:
    """Give a training its CPUs, and a volume: like a search, one that is killed goes on where it stood."""
    _sized(task, cpus)
    kubernetes.mount_pvc(task, pvc_name="intermodal-studies", mount_path="/state")


def _searches(task: dsl.PipelineTask, cpus: int) -> None:
    """Give a task of the search what a training has, and the study, which lies on that volume or in a secret's database."""
    _trains(task, cpus)
    kubernetes.use_secret_as_env(
        task, secret_name="intermodal-hpo", secret_key_to_env={"storage-url": "INTERMODAL_HPO_STORAGE"}, optional=True
    )


@dsl.pipeline(name="ner-model-factory", description="From documents to the fastest ONNX model that is accurate enough.")
def ner_model_factory(
    data: dsl.Input[dsl.Dataset] = None,
    local_backbone: dsl.Input[dsl.Model] = None,
    size: str = _DEFAULTS["size"],
    seed: int = _DEFAULTS["seed"],
    entity_types: list = _DEFAULTS["entity_types"],
    validation_fraction: float = _DEFAULTS["validation_fraction"],
    test_fraction: float = _DEFAULTS["test_fraction"],
    backbones: list = _DEFAULTS["backbones"],
    hub_backbones: list = _DEFAULTS["hub_backbones"],
    hub_endpoint: str = "https://huggingface.co",
    search_space: dict = _DEFAULTS["search_space"],
    trials: int = _DEFAULTS["trials"],
    sampler: str = _DEFAULTS["sampler"],
    pruner: str = _DEFAULTS["pruner"],
    search: dict = _DEFAULTS["search"],
    workers: list = _DEFAULTS["workers"],
    search_training: dict = _DEFAULTS["search_training"],
    training: dict = _DEFAULTS["training"],
    gate: dict = _DEFAULTS["gate"],
    conversion: dict = _DEFAULTS["conversion"],
    benchmark: dict = _DEFAULTS["benchmark"],
    tolerance: float = _DEFAULTS["tolerance"],
    latency_budget_ms: float = _DEFAULTS["latency_budget_ms"],
    percentile: str = _DEFAULTS["percentile"],
    refits: list = _DEFAULTS["refits"],
    cpus: int = 2,
    worker_cpus: int = 2,
) -> Outputs:
    documents = dataset(
        data=data,
        size=size,
        seed=seed,
        entity_types=entity_types,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )
    with dsl.ParallelFor(hub_backbones, name="downloads") as name:
        fetched = fetch(name=name, endpoint=hub_endpoint)
    downloads = gather(fetched=dsl.Collected(fetched.outputs["model"]))

    with dsl.ParallelFor(backbones, name="candidates") as name:
        start = backbone(name=name, fetched=downloads.outputs["model"], seed=seed, local=local_backbone)
        with dsl.ParallelFor(workers, name="workers") as worker:
            helper = hpo_worker(
                worker=worker,
                dataset=documents.outputs["dataset"],
                backbone=start.outputs["model"],
                search_space=search_space,
                training=search_training,
                trials=trials,
                sampler=sampler,
                pruner=pruner,
                seed=seed,
                search=search,
                threads=worker_cpus,
            )
            _searches(helper, worker_cpus)
        found = hpo(
            dataset=documents.outputs["dataset"],
            backbone=start.outputs["model"],
            search_space=search_space,
            training=search_training,
            trials=trials,
            sampler=sampler,
            pruner=pruner,
            seed=seed,
            search=search,
            helpers=dsl.Collected(helper.outputs["done"]),
            threads=cpus,
        )
        _searches(found, cpus)
        trained = trainer(
            dataset=documents.outputs["dataset"],
            backbone=start.outputs["model"],
            hyperparameters=found.outputs["best_parameters"],
            training=training,
            seed=seed,
            threads=cpus,
        )
        _trains(trained, cpus)
        converted = converter(
            model=trained.outputs["model"], dataset=documents.outputs["dataset"], gate=gate, conversion=conversion
        )
        _sized(converted, cpus)

    # Nothing may run beside a benchmark: it asks for all that the run may use, and the baseline waits for all conversions.
    pytorch = baseline(
        models=dsl.Collected(trained.outputs["model"]), dataset=documents.outputs["dataset"], settings=benchmark
    )
    _sized(pytorch, cpus)
    measured = benchmarker(
        bundles=dsl.Collected(converted.outputs["bundle"]),
        dataset=documents.outputs["dataset"],
        baseline=pytorch.outputs["measured"],
        settings=benchmark,
    )
    _sized(measured, cpus)
    chosen = selector(
        bundles=dsl.Collected(converted.outputs["bundle"]),
        benchmark=measured.outputs["benchmark"],
        tolerance=tolerance,
        latency_budget_ms=latency_budget_ms,
        percentile=percentile,
    )
    # The champion once more, from all documents but the test ones: after the choice, which needs documents that nobody learned from.
    with dsl.ParallelFor(refits, name="refits"):
        again = backbone(
            name=chosen.outputs["backbone"], fetched=downloads.outputs["model"], seed=seed, local=local_backbone
        )
        refitted = trainer(
            dataset=documents.outputs["dataset"],
            backbone=again.outputs["model"],
            hyperparameters=chosen.outputs["hyperparameters"],
            training=chosen.outputs["training"],
            seed=seed,
            threads=cpus,
        )
        _trains(refitted, cpus)
        bundle = converter(
            model=refitted.outputs["model"],
            dataset=documents.outputs["dataset"],
            gate=gate,
            conversion=chosen.outputs["conversion"],
        )
        _sized(bundle, cpus)
        final = keep(bundle=bundle.outputs["bundle"], variant=chosen.outputs["variant"])
    return Outputs(
        champion=chosen.outputs["champion"],
        summary=chosen.outputs["summary"],
        report=chosen.outputs["report"],
        benchmark=measured.outputs["benchmark"],
        decision=chosen.outputs["decision"],
        refitted=dsl.Collected(final.outputs["champion"]),
    )

"""KFP interfaces of steps baseline and benchmarker."""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components.images import image


@dsl.container_component
def baseline(
    models: dsl.Input[List[dsl.Model]],  # noqa: UP006
    dataset: dsl.Input[dsl.Dataset],
    measured: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    settings: dict = {},  # noqa: B006 - KFP reads the default, nobody changes it
):
    """Measure every model in PyTorch, as it was trained and in the image that trained it: what the bundles are compared with.

    Args:
        models: model folders of the trainer, one a backbone.
        dataset: dataset folder.
        measured: JSON file with one entry a model.
        metrics: mean latency of each model.
        settings: those of the benchmark.
    """
    return dsl.ContainerSpec(
        image=image("trainer"),
        command=["python", "-m", "components.benchmarker.baseline"],
        args=[
            "--executor-input", "{{$}}",
            "--dataset", dataset.path,
            "--settings", settings,
            "--baseline", measured.path,
            "--executor-output", "{{$.outputs.output_file}}",
        ],
    )  # fmt: skip


@dsl.container_component
def benchmarker(
    bundles: dsl.Input[List[dsl.Model]],  # noqa: UP006
    dataset: dsl.Input[dsl.Dataset],
    baseline: dsl.Input[dsl.Artifact],
    benchmark: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    settings: dict = {},  # noqa: B006 - KFP reads the default, nobody changes it
):
    """Measure every variant of every bundle: latency, throughput and the scores of the very file that was timed.

    Args:
        bundles: bundles of the converter, one a backbone.
        dataset: dataset folder.
        baseline: what step baseline measured.
        benchmark: JSON file with one entry a candidate.
        report: the same as tables.
        metrics: mean latency and validation macro-F1 of each candidate; conclusive: 1 if the machine was quiet enough.
        settings: rounds, requests, warmup, seed and more; see components/benchmarker/README.md.
    """
    return dsl.ContainerSpec(
        image=image("benchmarker"),
        command=["python", "-m", "components.benchmarker"],
        args=[
            "--executor-input", "{{$}}",
            "--dataset", dataset.path,
            "--settings", settings,
            "--baseline", baseline.path,
            "--benchmark", benchmark.path,
            "--report", report.path,
            "--executor-output", "{{$.outputs.output_file}}",
        ],
    )  # fmt: skip

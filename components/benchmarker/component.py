"""KFP interface of step benchmarker."""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components.images import image


@dsl.container_component
def benchmarker(
    bundles: dsl.Input[List[dsl.Model]],  # noqa: UP006
    dataset: dsl.Input[dsl.Dataset],
    benchmark: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    settings: dict = {},  # noqa: B006 - KFP reads the default, nobody changes it
):
    """Measure every variant of every bundle: latency, throughput and the scores of the very file that was timed.

    Args:
        bundles: bundles of the converter, one a backbone.
        dataset: dataset folder.
        benchmark: JSON file with one entry a candidate.
        metrics: mean latency and validation macro-F1 of each candidate.
        settings: rounds, requests, warmup, seed.
    """
    return dsl.ContainerSpec(
        image=image("benchmarker"),
        command=["python", "-m", "components.benchmarker"],
        args=[
            "--executor-input", "{{$}}",
            "--dataset", dataset.path,
            "--settings", settings,
            "--benchmark", benchmark.path,
            "--executor-output", "{{$.outputs.output_file}}",
        ],
    )  # fmt: skip

"""KFP interface of step selector: `selector`, and `keep` for a bundle that is chosen already."""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components.images import image

_COMMAND = ["python", "-m", "components.selector"]


@dsl.container_component
def selector(
    bundles: dsl.Input[List[dsl.Model]],  # noqa: UP006
    benchmark: dsl.Input[dsl.Artifact],
    champion: dsl.Output[dsl.Model],
    summary: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
    decision: dsl.OutputPath(dict),
    backbone: dsl.OutputPath(str),
    variant: dsl.OutputPath(str),
    hyperparameters: dsl.OutputPath(dict),
    training: dsl.OutputPath(dict),
    conversion: dsl.OutputPath(dict),
    tolerance: float = 0.01,
    latency_budget_ms: float = 0.0,
    percentile: str = "p50",
):
    """Choose the fastest candidate whose validation macro-F1 is within tolerance of the best and within the budget.

    Args:
        bundles: the bundles that were measured.
        benchmark: the benchmarker's JSON file.
        champion: the bundle of the chosen candidate, with that variant alone.
        summary: the final table, and why.
        report: the same as one HTML page.
        decision: the champion and the reasons, as JSON.
        backbone: the champion's backbone. It and the next four make the champion again from all documents.
        variant: the champion's variant, fp32 or int8.
        hyperparameters: the champion's hyperparameters.
        training: its training settings, for as many epochs as validation chose, with all documents.
        conversion: the build of the champion's file.
        tolerance: of validation macro-F1 below the best, absolute.
        latency_budget_ms: milliseconds; 0 is none.
        percentile: which latency counts, p50 or p95.
    """
    return dsl.ContainerSpec(
        image=image("selector"),
        command=_COMMAND,
        args=[
            "choose",
            "--executor-input", "{{$}}",
            "--benchmark", benchmark.path,
            "--tolerance", tolerance,
            "--latency-budget-ms", latency_budget_ms,
            "--percentile", percentile,
            "--champion", champion.path,
            "--summary", summary.path,
            "--report", report.path,
            "--decision", decision,
            "--backbone", backbone,
            "--variant", variant,
            "--hyperparameters", hyperparameters,
            "--training", training,
            "--conversion", conversion,
        ],
    )  # fmt: skip


@dsl.container_component
def keep(bundle: dsl.Input[dsl.Model], variant: str, champion: dsl.Output[dsl.Model]):
    """Keep one variant of a bundle. Fails where the conversion left that variant out.

    Args:
        bundle: what the converter made.
        variant: fp32 or int8.
        champion: the bundle with that variant alone.
    """
    return dsl.ContainerSpec(
        image=image("selector"),
        command=_COMMAND,
        args=["keep", "--bundle", bundle.path, "--variant", variant, "--champion", champion.path],
    )

"""KFP interface of step selector."""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components.images import image


@dsl.container_component
def selector(
    bundles: dsl.Input[List[dsl.Model]],  # noqa: UP006
    benchmark: dsl.Input[dsl.Artifact],
    champion: dsl.Output[dsl.Model],
    summary: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
    decision: dsl.OutputPath(dict),
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
        tolerance: of validation macro-F1 below the best, absolute.
        latency_budget_ms: milliseconds; 0 is none.
        percentile: which latency counts, p50 or p95.
    """
    return dsl.ContainerSpec(
        image=image("selector"),
        command=["python", "-m", "components.selector"],
        args=[
            "--executor-input", "{{$}}",
            "--benchmark", benchmark.path,
            "--tolerance", tolerance,
            "--latency-budget-ms", latency_budget_ms,
            "--percentile", percentile,
            "--champion", champion.path,
            "--summary", summary.path,
            "--report", report.path,
            "--decision", decision,
        ],
    )  # fmt: skip

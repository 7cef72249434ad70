"""What a sample of latencies can carry.

The rule is that of MLPerf's early stopping (mlcommons/inference, loadgen/early_stopping.cc): a percentile needs so many requests that
one of them may lie beyond its bound and the bound still holds with 99 % confidence. That is 64 requests for p90 and 662 for p99, the
numbers that LoadGen prints; by the same formula 11 for p50 and 130 for p95.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

CONFIDENCE = 0.99
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def beyond(requests: int, quantile: float) -> int:
    """Return how many of `requests` may lie beyond a bound that is still, with 99 % confidence, no lower than the quantile.

    -1: none may, the sample is too small for any bound.
    """
    total, allowed = 0.0, -1
    for over in range(requests + 1):
        total += math.exp(
            math.lgamma(requests + 1)
            - math.lgamma(over + 1)
            - math.lgamma(requests - over + 1)
            + over * math.log(1 - quantile)
            + (requests - over) * math.log(quantile)
        )
        if total > 1 - CONFIDENCE:
            break
        allowed = over
    return allowed


def least_requests(quantile: float) -> int:
    """Return the smallest number of requests that carries the quantile."""
    requests = 2
    while beyond(requests, quantile) < 1:
        requests += 1
    return requests


def percentiles(samples: Sequence[float]) -> dict[str, Any]:
    """Return p50, p90, p95, p99 (None where the sample is too small), mean, max, the number of requests; and in `at_most` a bound for
    each percentile that it is below with 99 % confidence, whatever the distribution."""
    ordered = sorted(samples)
    found: dict[str, Any] = {"mean": float(np.mean(ordered)), "max": ordered[-1], "requests": len(ordered)}
    bounds: dict[str, float | None] = {}
    for name, quantile in PERCENTILES.items():
        allowed = beyond(len(ordered), quantile)
        carried = allowed >= 1
        found[name] = float(np.quantile(ordered, quantile)) if carried else None
        bounds[name] = ordered[-1 - allowed] if carried else None
    return {**found, "at_most": bounds}

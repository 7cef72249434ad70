"""The Server scenario: the highest rate of arrivals at which p99 stays under a bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from components.benchmarker.sample import beyond, least_requests

QUANTILE = 0.99
_STEP = 1.1
"""Rates are tried in steps of 10 %: the answer is that exact."""
_TRIALS = 12

Serve = Callable[[float, int, int], Mapping[str, Any]]
"""Maps a rate, a number of requests and how many may be late to what the worker's `serve` says."""


def highest_rate(serve: Serve, service_ms: list[float], bound_ms: float) -> dict[str, Any]:
    """Return the highest rate, in documents a second, whose p99 is under the bound with 99 % confidence, and the trials.

    A queue of the service times that are known already says where to begin. Each trial has the fewest requests that carry p99.
    `rate` is None if none that was tried holds; without trials, even single requests, one after another, are too slow.
    """
    requests = least_requests(QUANTILE)
    allowed = beyond(requests, QUANTILE)
    found: dict[str, Any] = {"bound_ms": bound_ms, "rate": None, "trials": []}

    def holds(rate: float) -> bool:
        seen = serve(rate, requests, allowed)
        passed = bool(seen["over"] <= allowed and len(seen["ms"]) == requests)
        found["trials"].append({"rate": rate, "requests": len(seen["ms"]), "over": seen["over"], "passed": passed})
        if passed:
            found.update(rate=rate, p99_ms=float(np.quantile(seen["ms"], QUANTILE)))
        return passed

    rate = predicted_rate(service_ms, bound_ms)
    if rate is None:
        return found
    direction = holds(rate)
    while len(found["trials"]) < _TRIALS:
        rate = rate * _STEP if direction else rate / _STEP
        if holds(rate) is not direction:
            break
    return found


def predicted_rate(service_ms: list[float], bound_ms: float, requests: int = 20_000) -> float | None:
    """Return the highest rate at which a simulated queue of these service times keeps p99 under the bound; None if no rate does.

    One server, first come first served: a request waits max(0, what the one before it waited and took, less the time between the two).
    """
    random = np.random.default_rng(0)
    service = random.choice(np.asarray(service_ms), requests)
    gaps = random.exponential(1.0, requests)
    if float(np.quantile(service, QUANTILE)) > bound_ms:
        return None
    low, high = 0.0, 1000 / float(service.mean())
    for _ in range(12):
        rate = (low + high) / 2
        # Lindley's recursion as a running minimum of the random walk of work less time.
        walk = np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:] * 1000 / rate)])
        waits = walk - np.minimum.accumulate(walk)
        low, high = (rate, high) if float(np.quantile(waits + service, QUANTILE)) <= bound_ms else (low, rate)
    return low or None

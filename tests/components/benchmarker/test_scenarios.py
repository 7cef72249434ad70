"""Scenarios, baseline and noise guard of the benchmarker: by the real step on small models, and by arithmetic that can be checked."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.benchmarker.bundle import read_candidates
from components.benchmarker.join import join, read_baseline
from components.benchmarker.noise import compare, guard
from components.benchmarker.sample import beyond, least_requests, percentiles
from components.benchmarker.server import highest_rate, predicted_rate
from components.benchmarker.settings import parse_settings
from components.benchmarker.worker import Worker
from components.kfp_io import StepError
from components.ner.formats import load_split
from tests.components.benchmarker.test_step import bundle, run, write_documents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle `b`, a dataset, and what the step writes with every scenario asked for: out.json, report.md."""
    folder = tmp_path_factory.mktemp("measured")
    bundles, documents = [bundle(folder / "b", "one", fp32=False, int8=True)], write_documents(folder / "dataset")
    settings = {
        "rounds": 2,
        "requests": 35,
        "warmup": 1,
        "cold_starts": 2,
        "offline_batch": 4,
        "server_ms": 200,
        "thread_sweep": 1,
    }
    done = run(folder, bundles, documents, settings, "--report", str(folder / "report.md"))
    assert done.returncode == 0, done.stderr
    assert (folder / "report.md").read_text() in done.stdout
    return folder


@pytest.fixture
def measured(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return document


def test_one_run_gives_every_scenario_and_what_comes_with_them(measured: dict[str, Any], folder: Path):
    for entry in measured["candidates"]:
        assert (
            entry["latency_ms"]["requests"] == 70 and entry["latency_ms"]["p90"] and entry["latency_ms"]["p95"] is None
        )
        assert (
            entry["offline"]["documents"] == entry["offline"]["same_answers"] == 6
            and entry["offline"]["documents_per_second"] > 0
        )
        assert len(entry["cold_start_ms"]) == 2 and min(entry["cold_start_ms"]) > entry["latency_ms"]["p50"]
        assert 10e6 < entry["memory"]["resident"] <= entry["memory"]["peak"]
        assert [point["threads"] for point in entry["threads"]] == [1]
        (bucket,) = entry["buckets"]
        assert (bucket["tokens_up_to"], bucket["documents"], bucket["latency_ms"]["requests"]) == (32, 6, 70)
        trials = entry["server"]["trials"]
        assert trials and {trial["passed"] for trial in trials[:-1]} <= {trials[0]["passed"]}, (
            "one direction, until it changes"
        )
        assert entry["server"]["rate"] == max([trial["rate"] for trial in trials if trial["passed"]], default=None)
        assert all(trial["requests"] == 662 for trial in trials if trial["passed"])
    assert measured["noise"]["verdict"] in ("steady", "inconclusive") and measured["noise"]["twin"] == "one fp32"
    assert "| one int8 |" in (folder / "report.md").read_text()


def test_a_percentile_needs_the_requests_that_mlperf_asks_for():
    assert {q: least_requests(q) for q in (0.5, 0.9, 0.95, 0.99)} == {0.5: 11, 0.9: 64, 0.95: 130, 0.99: 662}
    assert percentiles([1.0] * 661)["p99"] is None and percentiles([1.0] * 662)["p99"] == 1
    assert percentiles([1.0] * 63)["at_most"]["p90"] is None and beyond(10, 0.99) == -1
    assert percentiles(list(range(1, 1002)))["p50"] == 501


def test_the_bound_of_a_percentile_holds_as_often_as_it_says():
    draw = np.random.default_rng(1)
    true = -np.log(0.1)  # p90 of the exponential distribution
    held = sum(percentiles(draw.exponential(size=100))["at_most"]["p90"] >= true for _ in range(1000))
    assert 980 <= held < 1000


def queue_p99(service: list[float], rate: float) -> float:
    """The plain queue, request by request."""
    draw, clock, free, taken = random.Random(5), 0.0, 0.0, []
    for _ in range(20_000):
        clock += draw.expovariate(rate) * 1000
        free = max(free, clock) + draw.choice(service)
        taken.append(free - clock)
    return float(np.quantile(taken, 0.99))


def test_the_predicted_rate_is_that_of_a_queue_worked_out_by_hand():
    service = [8.0, 10.0, 12.0, 30.0]
    rate = predicted_rate(service, 100)
    assert rate and queue_p99(service, rate * 0.9) < 100 < queue_p99(service, rate * 1.1)
    assert predicted_rate(service, 20) is None, "p99 of the service alone is over the bound"


@pytest.mark.parametrize("limit", [25.0, 60.0])
def test_the_search_ends_at_the_highest_rate_that_holds(limit: float):
    """Wherever the truth is beside the prediction, of about 45 a second."""

    def serve(rate: float, requests: int, allowed: int) -> dict[str, Any]:
        late = allowed + 1 if rate > limit else 0
        return {"ms": [1.0] * (requests - late), "over": late}

    found = highest_rate(serve, [8.0, 10.0, 12.0, 30.0], 100)
    assert limit / 1.1 < found["rate"] <= limit
    assert highest_rate(serve, [200.0], 100)["rate"] is None


def test_server_latencies_count_from_when_a_request_was_due(folder: Path):
    candidate = read_candidates([folder / "b"])[0]
    worker = Worker({**candidate.as_json(), "dataset": str(folder / "dataset"), "threads": 1})
    flood = worker.serve(rate=1e6, requests=300, seed=1, bound_ms=1e9, allowed=0)
    assert flood["ms"] == sorted(flood["ms"]), "each of a flood has waited for all before it"
    assert flood["ms"][-1] > 500 * flood["seconds"], "the last of them since the beginning"
    assert len(worker.serve(rate=1e6, requests=300, seed=1, bound_ms=0, allowed=3)["ms"]) == 4, (
        "a lost cause ends early"
    )


def test_documents_together_are_tagged_as_on_their_own(folder: Path):
    worker = Worker(
        {
            **read_candidates([folder / "b"])[0].as_json(),
            "dataset": str(folder / "dataset"),
            "threads": 1,
        }
    )
    texts = [document.text for document in load_split(folder / "dataset", "test")] + ["", "bob"]
    for batch in (1, 3, 100):
        tagger = worker._make(batch)
        assert tagger.tag_all(texts) == [tagger.tag(text) for text in texts]


def rounds(value: float, wobble: float = 0.0) -> list[list[float]]:
    return [[value * (1 + wobble * (-1) ** number)] * 9 for number in range(5)]


@pytest.mark.parametrize(
    ("ours", "theirs", "resolution", "verdict"),
    [
        (rounds(10), rounds(30), 0.1, "faster"),
        (rounds(30), rounds(10), 0.1, "slower"),
        (rounds(10), rounds(10.5), 0.1, "inconclusive"),  # less than the machine can tell apart
        (rounds(10, 0.3), rounds(11), 0.01, "inconclusive"),  # not in every round
    ],
)
def test_a_difference_is_one_in_every_round_and_beyond_the_noise(ours, theirs, resolution, verdict):
    found = compare("a", ours, "b", theirs, resolution)
    assert found["verdict"] == verdict and found["low"] <= found["speedup"] <= found["high"]


def test_the_guard_says_why_a_run_is_inconclusive():
    quiet = guard("a", [10, 10, 10], [10.2, 9.9, 10], [5, 5, 5.1], 0.0, 0.1)
    assert quiet["verdict"] == "steady" and quiet["resolution"] == pytest.approx(0.02)
    for values, word in (
        (([10, 10, 10], [10, 13, 10], [5, 5, 5], 0.0), "two processes of a differ by up to 30%"),
        (([10, 10, 10], [10, 10, 10], [5, 5, 9], 0.0), "80% slower in one round"),
        (([10, 10, 10], [10, 10, 10], [5, 5, 5], 0.2), "took 20%"),
    ):
        noisy = guard("a", *values, 0.1)
        assert noisy["verdict"] == "inconclusive" and word in noisy["why"][0] and len(noisy["why"]) == 1


def slower(document: dict[str, Any], factor: float) -> dict[str, Any]:
    """A baseline: the same rounds, each request `factor` times as long, of which it has fewer."""
    found = copy.deepcopy(document)
    found["candidates"] = found["candidates"][:1]
    found["candidates"][0]["variant"] = "pytorch"
    for turn in found["candidates"][0]["turns"]:
        turn["ms"] = [value * factor for value in turn["ms"][:10]]
    return found


def test_the_baseline_is_joined_round_by_round_on_the_same_documents(measured: dict[str, Any], tmp_path: Path):
    measured["noise"]["resolution"] = 0.1
    baseline = slower(measured, 4)
    (against,) = [
        c for c in join(measured, baseline)["comparisons"] if c["than"] == "one pytorch" and c["name"] == "one fp32"
    ]
    assert (
        against["speedup"] == pytest.approx(4) and against["low"] == pytest.approx(4) and against["verdict"] == "faster"
    )
    assert against["change_of_macro_f1"] == 0
    for change, why in (
        ({"machine": {"threads": 7}}, "7 threads"),
        ({"noise": {**measured["noise"], "yardstick_ms": [1e6]}}, "times as fast in one of the two runs"),
    ):
        found = [c for c in join(measured, {**baseline, **change})["comparisons"] if c["than"] == "one pytorch"]
        assert {c["verdict"] for c in found} == {"inconclusive"} and why in found[0]["why"]


def test_a_baseline_that_cannot_be_joined_is_refused_before_anything_is_measured(
    measured: dict[str, Any], tmp_path: Path
):
    file, settings = tmp_path / "baseline.json", parse_settings(measured["settings"])
    file.write_text(json.dumps(slower(measured, 2)))
    assert read_baseline(file, settings)["candidates"][0]["variant"] == "pytorch"
    with pytest.raises(StepError, match="its rounds is 2, here it is 3"):
        read_baseline(file, replace(settings, rounds=3))
    file.write_text('{"schema_version": 1, "candidates": [{}]}')
    with pytest.raises(StepError, match="is not a baseline"):
        read_baseline(file, settings)

"""Runs the workers: one process a variant, rounds interleaved, then the scenarios that need a machine of their own."""

from __future__ import annotations

import itertools
import os
import platform
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.benchmarker.bundle import SCHEMA_VERSION, Candidate
from components.benchmarker.noise import Steal, guard, yardstick
from components.benchmarker.process import Process, cold_start, thread_count
from components.benchmarker.sample import percentiles
from components.benchmarker.server import highest_rate
from components.benchmarker.settings import Settings
from components.kfp_io import StepError
from components.ner.formats import load_split


@dataclass(frozen=True)
class Rounds:
    """SingleStream, as it was measured: the turns of each process, and the yardstick before each round."""

    turns: list[list[dict[str, Any]]]
    sticks: list[float]


def benchmark(candidates: Sequence[Candidate], dataset: Path, settings: Settings, requests: int) -> dict[str, Any]:
    """Measure all candidates; return the document that the step writes, without comparisons. Raises StepError if a worker dies.

    The smallest candidate is measured twice, by two processes: what they differ by is what the machine cannot tell apart.
    """
    for split in ("validation", "test"):
        if not load_split(dataset, split):
            raise StepError(
                f"{dataset}: its {split} split is empty", hint="a candidate is scored on both and timed on test"
            )
    conditions, steal = _machine(), Steal()
    smallest = min(candidates, key=lambda candidate: (candidate.bytes, candidate.name))
    with ExitStack() as stack:
        processes = [
            stack.enter_context(Process(candidate, dataset, thread_count())) for candidate in (*candidates, smallest)
        ]
        scores = [process.ask("score") for process in processes[:-1]]
        rounds = _single_stream(processes, settings, requests)
        entries = [_entry(*item) for item in zip(candidates, processes, rounds.turns, scores, strict=False)]
        for entry, process, turns in zip(entries, processes, rounds.turns, strict=False):
            entry["memory"] = process.ask("memory")
            entry["buckets"] = _buckets(process.ask("lengths"), turns)
        for entry, process in zip(entries, processes, strict=False):
            entry.update(_offline_and_server(process, entry, settings))
        twin = rounds.turns[candidates.index(smallest)], rounds.turns[-1]
    _set_starts(entries)
    medians = [[float(np.median(turn["ms"][: settings.baseline_requests])) for turn in turns] for turns in twin]
    for entry, candidate in zip(entries, candidates, strict=True):
        entry["cold_start_ms"] = _cold(candidate, dataset, settings)
        entry["threads"] = _sweep(candidate, dataset, settings) if settings.thread_sweep else []
    noise = guard(smallest.name, *medians, rounds.sticks, steal.share(), settings.noise_percent / 100)
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": conditions,
        "settings": asdict(settings),
        "noise": noise,
        "candidates": entries,
    }


def _single_stream(processes: Sequence[Process], settings: Settings, requests: int) -> Rounds:
    """Time the rounds. All processes get the same documents in the same order, one process at a time; the last, the twin, fewer."""
    draw = random.Random(settings.seed)
    orders = [[draw.randrange(10**6) for _ in range(settings.requests)][:requests] for _ in range(settings.rounds)]
    found = Rounds([[] for _ in processes], [])
    for number, order in enumerate(orders):
        found.sticks.append(yardstick(thread_count()))
        # The order of variants turns too, so that none always follows the same other.
        for index in sorted(range(len(processes)), key=lambda i: (i + number) % len(processes)):
            asked = order[: settings.baseline_requests] if index == len(processes) - 1 else order
            processes[index].ask("time", order=asked[: settings.warmup])
            found.turns[index].append({**processes[index].ask("time", order=asked), "order": asked})
        print(f"round {number + 1} of {settings.rounds}", flush=True)
    return found


def _entry(
    candidate: Candidate, process: Process, turns: list[dict[str, Any]], scores: dict[str, Any]
) -> dict[str, Any]:
    """Return what is known of a candidate after the rounds; `turns` say when it was its turn."""
    samples = [value for turn in turns for value in turn["ms"]]
    seconds = sum(samples) / 1000
    return {
        "backbone": candidate.backbone,
        "variant": candidate.variant,
        "bundle_sha256": candidate.sha256,
        "bytes": candidate.bytes,
        "hyperparameters": candidate.hyperparameters,
        "latency_ms": percentiles(samples),
        "throughput": {
            "documents_per_second": len(samples) / seconds,
            "characters_per_second": sum(turn["characters"] for turn in turns) / seconds,
        },
        "process": process.id,
        "turns": [
            {
                "start": turn["start"],
                "end": turn["end"],
                "p50_ms": float(np.quantile(turn["ms"], 0.5)),
                "ms": [round(value, 4) for value in turn["ms"]],
            }
            for turn in turns
        ],
        "scores": scores,
    }


def _set_starts(entries: list[dict[str, Any]]) -> None:
    """Make the turns' clock one of seconds since the first of all."""
    begin = min(turn["start"] for entry in entries for turn in entry["turns"])
    for entry in entries:
        for turn in entry["turns"]:
            turn.update(start=(turn["start"] - begin) / 1e9, end=(turn["end"] - begin) / 1e9)


def _buckets(lengths: Sequence[int], turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the latencies by length of document, in tokens: up to 32, to 64, to 128, and so on."""
    groups: dict[int, list[float]] = {}
    documents: dict[int, set[int]] = {}
    for turn in turns:
        for index, value in zip(turn["order"], turn["ms"], strict=True):
            number = index % len(lengths)
            edge = max(32, 1 << (max(lengths[number], 1) - 1).bit_length())
            groups.setdefault(edge, []).append(value)
            documents.setdefault(edge, set()).add(number)
    return [
        {"tokens_up_to": edge, "documents": len(documents[edge]), "latency_ms": percentiles(values)}
        for edge, values in sorted(groups.items())
    ]


def _offline_and_server(process: Process, entry: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the scenarios Offline and Server, each None if it is not asked for."""
    found: dict[str, Any] = {"offline": None, "server": None}
    if settings.offline_batch:
        done = process.ask("offline", batch=settings.offline_batch)
        found["offline"] = {**done, "documents_per_second": done["documents"] / done["seconds"]}
    if settings.server_ms:
        seeds = itertools.count(settings.seed)  # one unlucky crowd must not meet every rate

        def serve(rate: float, requests: int, allowed: int) -> Mapping[str, Any]:
            seen: Mapping[str, Any] = process.ask(
                "serve", rate=rate, requests=requests, seed=next(seeds), bound_ms=settings.server_ms, allowed=allowed
            )
            return seen

        samples = [value for turn in entry["turns"] for value in turn["ms"]]
        found["server"] = highest_rate(serve, samples, settings.server_ms)
    return found


def _cold(candidate: Candidate, dataset: Path, settings: Settings) -> list[float]:
    return [cold_start(candidate, dataset, thread_count()) for _ in range(settings.cold_starts)]


def _sweep(candidate: Candidate, dataset: Path, settings: Settings) -> list[dict[str, Any]]:
    """Return SingleStream with one thread, two, four and so on, up to what is granted; each in a process of its own."""
    counts = sorted(
        {1 << bit for bit in range(thread_count().bit_length()) if 1 << bit <= thread_count()} | {thread_count()}
    )
    draw = random.Random(settings.seed)
    order = [draw.randrange(10**6) for _ in range(settings.requests)]
    found = []
    for count in counts:
        with Process(candidate, dataset, count) as process:
            process.ask("time", order=order[: settings.warmup])
            samples = process.ask("time", order=order)["ms"]
        found.append({"threads": count, "latency_ms": percentiles(samples)})
    return found


def _machine() -> dict[str, Any]:
    """Return what the figures depend on. Called before measuring: the load is then that of others."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": thread_count(),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()

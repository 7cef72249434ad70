"""The benchmark as Markdown, for people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any


def markdown(document: Mapping[str, Any]) -> str:
    """Return the tables. A figure that its sample cannot carry is a dash."""
    noise, machine = document["noise"], document["machine"]
    verdict = "**Steady**" if noise["verdict"] == "steady" else f"**Inconclusive**: {'; '.join(noise['why'])}"
    lines = ["# Benchmark", ""]
    lines += [f"{machine['threads']} threads, {machine['cpu']}, load {machine['load_before']:.1f} before. {verdict}."]
    lines += [
        f"Two processes of {noise['twin']} differ by up to {noise['resolution']:.1%} in a round: no smaller difference counts.",
        "",
    ]
    lines += _table(
        ("", "SingleStream p50 ms", "p90", "p95", "p99", "documents/s", "Offline documents/s", "Server documents/s",
         "first answer ms", "peak MB", "file MB", "test macro-F1"),
        [_row(entry) for entry in (*document["candidates"], *document["baseline"])],
    )  # fmt: skip
    if document["comparisons"]:
        lines += ["", "## Compared at p50, round by round", ""]
        lines += _table(
            ("", "than", "times as fast", "verdict", "macro-F1"), [_comparison(c) for c in document["comparisons"]]
        )
    lines += ["", "## By length of document", "", *_lengths(document)]
    if any(entry["threads"] for entry in document["candidates"]):
        lines += ["", "## By threads", "", *_threads(document)]
    return "\n".join([*lines, ""])


def _table(header: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _row(entry: Mapping[str, Any]) -> list[str]:
    latency, offline, server = entry["latency_ms"], entry["offline"], entry["server"]
    rate = "not asked" if server is None else ("none" if server["rate"] is None else f"{server['rate']:.1f}")
    return [
        _name(entry),
        *(_number(latency[name]) for name in ("p50", "p90", "p95", "p99")),
        f"{entry['throughput']['documents_per_second']:.1f}",
        "not asked" if offline is None else f"{offline['documents_per_second']:.1f}",
        rate if server is None or server["rate"] is None else f"{rate} (p99 ≤ {server['bound_ms']} ms)",
        f"{statistics.median(entry['cold_start_ms']):.0f}",
        f"{entry['memory']['peak'] / 1e6:.0f}",
        f"{entry['bytes'] / 1e6:.1f}",
        f"{entry['scores']['test']['macro_f1']:.4f}",
    ]


def _comparison(found: Mapping[str, Any]) -> list[str]:
    ratio = f"{found['speedup']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
    verdict = found["verdict"] + (f": {found['why']}" if found.get("why") else "")
    change = f"{found['change_of_macro_f1']:+.4f}" if "change_of_macro_f1" in found else ""
    return [found["name"], found["than"], ratio, verdict, change]


def _lengths(document: Mapping[str, Any]) -> list[str]:
    entries = (*document["candidates"], *document["baseline"])
    edges = sorted({bucket["tokens_up_to"] for entry in entries for bucket in entry["buckets"]})
    rows = []
    for entry in entries:
        found = {bucket["tokens_up_to"]: bucket["latency_ms"]["p50"] for bucket in entry["buckets"]}
        rows.append([_name(entry), *(_number(found.get(edge)) for edge in edges)])
    return _table(("p50 ms", *(f"≤ {edge} tokens" for edge in edges)), rows)


def _threads(document: Mapping[str, Any]) -> list[str]:
    entries = [entry for entry in (*document["candidates"], *document["baseline"]) if entry["threads"]]
    counts = [point["threads"] for point in entries[0]["threads"]]
    rows = [[_name(entry), *(_number(point["latency_ms"]["p50"]) for point in entry["threads"])] for entry in entries]
    return _table(("p50 ms", *(f"{count} threads" for count in counts)), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['backbone']} {entry['variant']}"

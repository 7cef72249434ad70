"""What a benchmark gives: one figure, what it is compared with, and what was aimed at."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One row of the table. Times are seconds; `ratio` is ours to the peer's, of the same run."""

    what: str
    ours: str
    peer: str
    ratio: str
    target: str
    met: bool


def against(what: str, ours: Sequence[float], peer_name: str, peer: Sequence[float], most: float) -> Figure:
    """Compare medians of paired rounds: the ratio is the median of the pairs' ratios, with the smallest and the largest."""
    ratios = sorted(mine / theirs for mine, theirs in zip(ours, peer, strict=True))
    middle = statistics.median(ratios)
    return Figure(
        what,
        f"{statistics.median(ours):.3f} s",
        f"{peer_name}: {statistics.median(peer):.3f} s",
        f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        f"≤ {most:g} ×",
        middle <= most,
    )


def faster(what: str, ours: Sequence[float], peer_name: str, peer: Sequence[float], least: float) -> Figure:
    """Say how many times faster ours is, by medians."""
    mine, theirs = statistics.median(ours), statistics.median(peer)
    factor = theirs / mine
    return Figure(
        what,
        f"{mine:.2f} s",
        f"{peer_name}: {theirs:.2f} s",
        f"{factor:.1f} × faster",
        f"≥ {least:g} × faster",
        factor >= least,
    )


def by_turns(what: str, ours: Sequence[float], peer_name: str, peer: Sequence[float], least: float) -> Figure:
    """Say how many times faster ours is, in milliseconds of paired rounds: the median of the pairs' ratios, with its 95 % interval.

    The target is met where the whole interval is, and missed where none of it is; else the figure says that it is inconclusive.
    """
    ratios = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
    low, high = median_interval(ratios)
    return Figure(
        what + (" (inconclusive)" if low < least <= high else ""),
        f"{statistics.median(ours):.1f} ms",
        f"{peer_name}: {statistics.median(peer):.1f} ms",
        f"{statistics.median(ratios):.2f} × faster ({low:.2f} to {high:.2f})",
        f"≥ {least:g} × faster",
        low >= least,
    )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the two of `values` that hold the median between them with 95 % confidence, by the sign test: whatever the distribution.

    Raises ValueError for fewer than six values, which carry no such interval.
    """
    ordered, count = sorted(values), len(values)
    left_out, tails = -1, 2.0 / 2**count  # of both sides, were the median beyond the smallest or the largest
    while tails <= 0.05:
        left_out += 1
        tails += 2 * math.comb(count, left_out + 1) / 2**count
    if left_out < 0:
        raise ValueError(f"{count} rounds carry no 95 % interval, six do")
    return ordered[left_out], ordered[-1 - left_out]


def within(what: str, ours: Sequence[float], most: float, unit: str = "s") -> Figure:
    """Compare a median with a bound that is no peer's."""
    middle = statistics.median(ours)
    return Figure(what, f"{middle:.3g} {unit}", "", "", f"≤ {most:g} {unit}", middle <= most)


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table under the date and the machine."""
    lines = [
        f"{date.today().isoformat()}, {machine()}.",
        "",
        "| what | intermodal | peer | ratio | target | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {f.what} | {f.ours} | {f.peer} | {f.ratio} | {f.target} | {'yes' if f.met else '**no**'} |" for f in figures
    ]
    return "\n".join(lines)


def machine() -> str:
    """Describe this machine in a few words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}"

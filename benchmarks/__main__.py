"""`python -m benchmarks [NAME ...] [--write]`: run the benchmarks and print their table; exit 1 if a target is missed.

`--write` puts the table of a whole run into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import cached, engine, finder, loop, onnx, scheduler, searches, tracking
from benchmarks.figures import Figure, table

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "help": engine.help_text,
    "start": engine.first_container,
    "chain": engine.a_step_of_a_chain,
    "hundred": engine.hundred_steps,
    "together": loop.together,
    "factory": cached.factory,
    "heavy": cached.heavy,
    "scheduler": scheduler.ten_thousand,
    "tracking": tracking.cost,
    "onnx": onnx.int8,
    "workers": searches.workers,
    "pruning": searches.pruning,
    "finder": finder.finder,
}
_PAGE = Path("docs/benchmarks.md")
_BEGIN, _END = "<!-- make bench -->", "<!-- end -->"


def main() -> int:
    """Run what is named, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--write", action="store_true", help=f"put the table into {_PAGE}")
    args = parser.parse_args()
    unknown = set(args.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)[0]!r}: there are {', '.join(BENCHMARKS)}")
    figures: list[Figure] = []
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="intermodal-bench-") as folder:
            figures += BENCHMARKS[name](Path(folder))
    text = table(figures)
    print(text)
    if args.write:
        _write(text)
    return 0 if all(figure.met for figure in figures) else 1


def _write(text: str) -> None:
    page = _PAGE.read_text(encoding="utf-8")
    head, rest = page.split(_BEGIN)
    _PAGE.write_text(f"{head}{_BEGIN}\n\n{text}\n\n{_END}{rest.split(_END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

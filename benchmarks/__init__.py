"""Benchmarks: each figure beside a peer's in one run. `make bench` runs them; docs/benchmarks.md keeps the table."""

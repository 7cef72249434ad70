"""Where the index gets a server's runs from: a source. This one asks the server (REST); `index_database` has the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from intermodal.tracking.rest import PAGE, Client

Run = Mapping[str, Any]
"""A run as MLflow's `runs/search` gives it: of it `info` (id, experiment, name, status, times) and `data` (tags, params, metrics)."""
Moment = Literal["start_time", "end_time"]


class Source(Protocol):
    """The runs of one server that are not deleted, of experiments that are not. Times are in ms. All of it raises Unreachable, Rejected."""

    def experiments(self) -> list[str]:
        """Return the ids of all experiments."""

    def pages(
        self, experiments: Sequence[str], moment: Moment, since: int, *, started_before: int | None = None
    ) -> Iterator[Sequence[Run]]:
        """Yield all runs of these experiments that started (or ended) at `since` or later, in that order, some at a time.

        What comes and goes meanwhile hides no other run; a run may come twice.
        """

    def first(self, experiments: Sequence[str], since: int, most: int) -> Sequence[Run]:
        """Return the first `most` runs that started at `since` or later, in the order of their start."""

    def named(self, experiments: Sequence[str], runs: Sequence[str]) -> Sequence[Run]:
        """Return which there are of at most a hundred runs."""


class FromServer:
    """Asks the server. MLflow takes some 1.3 ms to answer for one run."""

    def __init__(self, client: Client, *, page: int = PAGE) -> None:
        self._client = client
        self._page = page

    def experiments(self) -> list[str]:
        return self._client.experiments()

    def pages(
        self, experiments: Sequence[str], moment: Moment, since: int, *, started_before: int | None = None
    ) -> Iterator[Sequence[Run]]:
        """Pages are asked for by time, not by number, which runs that come and go would move."""
        more = "" if started_before is None else f" AND attributes.start_time < {started_before}"
        moved = bool(experiments)
        while moved:
            moved = False
            words = f"attributes.{moment} >= {since}{more}"
            for answer in self._client.search(experiments, words, f"attributes.{moment} ASC", page=self._page):
                runs = answer.get("runs", [])
                yield runs
                last = int(runs[-1]["info"][moment]) if runs else since
                if answer.get("next_page_token") and last > since:
                    since, moved = last, True
                    break  # else all of the page is of one moment: only its number leads on

    def first(self, experiments: Sequence[str], since: int, most: int) -> Sequence[Run]:
        found: list[Run] = []
        if experiments:
            words, order = f"attributes.start_time >= {since}", "attributes.start_time ASC"
            for answer in self._client.search(experiments, words, order, page=most):
                found += answer.get("runs", [])
                if len(found) >= most:
                    break
        return found[:most]

    def named(self, experiments: Sequence[str], runs: Sequence[str]) -> Sequence[Run]:
        words = ",".join(f"'{run}'" for run in runs)
        answers = self._client.search(experiments, f"attributes.run_id IN ({words})")
        return [run for answer in answers for run in answer.get("runs", [])]

"""One worker of a study whose trials sleep: started as a process by the tests, on a folder or a PostgreSQL. Prints its trials."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import Trial

from components.hpo.search_space import parse_search_space
from components.hpo.settings import parse_search
from components.hpo.storage import open_place, take_url
from components.hpo.study import lose, open_in_turn, open_study
from components.hpo.work import Report, Trained, Worker
from components.tracking_file import open_tracking_file

NAME = "a-study"


def main(given: dict[str, Any]) -> None:
    """Work on the study: `state`, `name`, `trials`, `seconds` of a trial, and optionally `sampler`, `space`, `search`, `sole`.

    A trial without the dimension `dropout` scores 1, all others their dropout. `zone`: the time zone of the worker's machine.
    `stop`: the process stops itself once, in its first "trial" or in its first "turn" just after it has claimed a trial.
    """
    seconds = given["seconds"]
    if "zone" in given:
        os.environ["TZ"] = given["zone"]
        time.tzset()
    space = parse_search_space(given.get("space") or {"dropout": {"type": "uniform", "min": 0, "max": 0.9}})
    search = parse_search(
        {"lease_seconds": 2, **given.get("search", {})},
        trials=given["trials"],
        sampler=given.get("sampler", "tpe"),
        pruner=given.get("pruner", "none"),
        seed=1,
        epochs=2,
    )

    stops = [given.get("stop")]

    def stop() -> None:
        stops.clear()
        os.kill(os.getpid(), signal.SIGSTOP)

    class Stopping(Worker):
        def _ask(self, slot: int, *, waits: bool) -> tuple[Trial, dict[str, Any]] | None:
            claimed = super()._ask(slot, waits=waits)
            if stops == ["turn"]:
                stop()
            return claimed

    def objective(point: Mapping[str, Any], report: Report) -> Trained:
        if stops == ["trial"]:
            # So that the thread that renews the lease is not amid a line of the journal, of which nobody else could write the next.
            with getattr(place.storage, "_thread_lock", contextlib.nullcontext()):
                stop()
        for epoch in (1, 2):
            time.sleep(seconds / 2)
            report(epoch, point.get("dropout", 1.0))
        return Trained((point.get("dropout", 1.0),))

    def bury(storage: Any) -> None:
        study = open_study(storage, NAME, search)
        for trial in study.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                lose(study, trial)

    url = take_url(os.environ)
    lease = search.lease_seconds
    with open_place(Path(given["state"]), NAME, url, sole=given.get("sole", False), lease=lease, bury=bury) as place:
        study = open_in_turn(place, NAME, search)
        print("ready", flush=True)
        if given.get("wait"):
            sys.stdin.readline()
        worker = Stopping(study, place, space, search, objective, name=given["name"], tracking=open_tracking_file())
        print(f"ran {worker.run()}", flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""The finder beside a real tracking server with 100,000 runs: a look-up by identity, and bringing the index in step."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, faster, within
from intermodal.spec.document import sha256_text
from intermodal.tracking import schema
from intermodal.tracking.find import Finder, Place, find_mlflow_run, open_index
from intermodal.tracking.find_conditions import conditions
from intermodal.tracking.index_source import FromServer
from intermodal.tracking.index_sync import sync
from intermodal.tracking.rest import Client
from intermodal.tracking.server import ensure_server, stop_server

_RUNS = 100_000
_NEW = 1_000
_ROUNDS = 5
_LOOK_UPS = 200
_APART = 10_000
"""Milliseconds between the starts of two runs: 100,000 of them in twelve days."""


def finder(folder: Path) -> list[Figure]:
    """Fill the server's database, read all of it once, then look up and bring in step again and again."""
    tracking = folder / "state/tracking"
    server = ensure_server(tracking)
    try:
        experiment = Client(server.uri, {}, 60.0).experiment("ner-model-factory")
        first = int(time.time() * 1000) - (_RUNS + 2 * _ROUNDS * _NEW) * _APART
        _fill(tracking / "mlflow.db", experiment, first, range(_RUNS))
        with open_index(server.uri, folder / "state") as place:
            read = place.bring_in_step()
            if len(place.index) != _RUNS:
                raise RuntimeError(f"the index has {len(place.index)} runs of {_RUNS}")
            figures = _look_ups(place, folder / "state", server.uri)
            over_rest = FromServer(place.client)
            seconds, asking = [], []
            for number in range(2 * _ROUNDS):
                start = _RUNS + number * _NEW
                _fill(tracking / "mlflow.db", experiment, first, range(start, start + _NEW))
                done = sync(place.index, over_rest) if number % 2 else place.bring_in_step()
                if done.new != _NEW:
                    raise RuntimeError(f"{done.new} runs were new of {_NEW}")
                (asking if number % 2 else seconds).append(done.seconds)
            idle = [place.bring_in_step().seconds for _ in range(_ROUNDS)]
    finally:
        stop_server(tracking)
    what = f"bringing the index in step, {_NEW} new of {_RUNS} runs (the first time, all of them: {read.seconds:.0f} s)"
    return [
        *figures,
        within(what, seconds, 1.0),
        faster("the same from the server's database", seconds, "over REST", asking, 1.0),
        within("the same, nothing new", idle, 1.0),
    ]


def _look_ups(place: Place, state: Path, uri: str) -> list[Figure]:
    numbers = random.Random(13).sample(range(_RUNS), _LOOK_UPS)
    look = Finder(place, check=False)
    warm = [_timed(lambda n=n: look.one(conditions(_identity(n)))) for n in numbers]
    cold = [_timed(lambda n=n: _from_python(n, state, uri)) for n in numbers]
    experiments = place.client.experiments()

    def ask(number: int) -> None:
        words = f"tags.`{schema.FINGERPRINT}` = '{_identity(number)}'"
        if len(next(place.client.search(experiments, words))["runs"]) != 1:
            raise RuntimeError("the server does not have it")

    peer = [_timed(lambda n=n: ask(n)) for n in numbers[:20]]
    milliseconds = [1000 * seconds for seconds in cold]
    return [
        within(
            f"look-up by identity among {_RUNS} runs, `find_mlflow_run(…, refresh=False)`", milliseconds, 20.0, "ms"
        ),
        within("the slowest of them", [max(milliseconds)], 20.0, "ms"),
        faster("the same with the index open", warm, "asking the server", peer, 1.0),
    ]


def _from_python(number: int, state: Path, uri: str) -> None:
    find_mlflow_run(_identity(number), tracking_uri=uri, state_folder=state, refresh=False)


def _timed(what: Callable[[], Any]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def _identity(number: int) -> str:
    return sha256_text(f"task {number}")


def _fill(database: Path, experiment: str, first: int, numbers: range) -> None:
    """Insert finished task runs as the tracking makes them. By SQL: over the interface 100,000 take an hour."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, columns, rows in (
            ("runs", _RUN_COLUMNS, (_run(number, experiment, first) for number in numbers)),
            ("tags", "key, value, run_uuid", (row for number in numbers for row in _tags(number))),
            ("params", "key, value, run_uuid", (row for number in numbers for row in _params(number))),
            ("latest_metrics", _METRIC_COLUMNS, (row for number in numbers for row in _metrics(number, first))),
        ):
            marks = ",".join("?" * (columns.count(",") + 1))
            connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


_RUN_COLUMNS = (
    "run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, source_version,"
    " lifecycle_stage, artifact_uri, experiment_id"
)
_METRIC_COLUMNS = "key, value, timestamp, step, run_uuid, is_nan"


def _id(number: int) -> str:
    return sha256_text(f"run {number}")[:32]


def _run(number: int, experiment: str, first: int) -> tuple[Any, ...]:
    start = first + number * _APART
    uri = f"mlflow-artifacts:/{experiment}/{_id(number)}/artifacts"
    name = f"trainer-seed{number}-{_identity(number)[:16]}"
    return (
        _id(number),
        name,
        "UNKNOWN",
        "",
        "",
        "user",
        "FINISHED",
        start,
        start + 5000,
        "",
        "active",
        uri,
        experiment,
    )


def _tags(number: int) -> Iterator[tuple[str, str, str]]:
    run = f"ner-model-factory-{number // 20}"
    yield from (
        (key, value, _id(number))
        for key, value in {
            schema.SCHEMA: "1",
            schema.KIND: "task",
            schema.KEY: f"{run}/trainer-{number}@1",
            schema.RUN: run,
            schema.TASK: f"for-loop-2/{number % 20}/trainer",
            schema.ATTEMPT: "1",
            schema.FINGERPRINT: _identity(number),
            schema.STATE: "SUCCEEDED",
            schema.PIPELINE: "ner-model-factory",
            schema.COMPONENT: "trainer",
            schema.IMAGE: f"sha256:{sha256_text('image')}",
            schema.BACKEND: "docker",
            schema.INPUTS: json.dumps({"dataset": sha256_text(f"data {number // 100}"), "backbone": sha256_text("b")}),
            schema.OUTPUTS: json.dumps({"model": sha256_text(f"model {number}")}),
            schema.PARENT: sha256_text(run)[:32],
            "mlflow.runName": f"trainer-seed{number}-{_identity(number)[:16]}",
        }.items()
    )


def _params(number: int) -> Iterator[tuple[str, str, str]]:
    values = {"learning_rate": number / 1e7, "batch_size": 4, "dropout": 0.1, "seed": number, "weight_decay": 0.01}
    yield from ((key, str(value), _id(number)) for key, value in values.items())


def _metrics(number: int, first: int) -> Iterator[tuple[Any, ...]]:
    moment = first + number * _APART
    for key in ("validation_macro_f1", "validation_micro_f1", "loss", "seconds"):
        yield key, (number % 1000) / 1000, moment, 0, _id(number), 0

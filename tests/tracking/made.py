"""MLflow runs as the engine's tracking makes them, made by MLflow's own client for tests of the index and the finder."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from intermodal.spec.document import sha256_text
from intermodal.tracking import schema


class Made:
    """Makes runs in one experiment. A word stands for a digest: its sha256."""

    def __init__(self, client: MlflowClient, experiment: str | None = None) -> None:
        self.client = client
        self.pipeline = experiment or f"made-{uuid.uuid4().hex[:8]}"
        self.experiment: str = client.create_experiment(self.pipeline)

    def run(
        self,
        what: str,
        *,
        status: str = "FINISHED",
        start: int | None = None,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        inputs: tuple[str, ...] = (),
        outputs: tuple[str, ...] = (),
        **tags: str,
    ) -> str:
        """Make a run whose identity is `what`, and return MLflow's id of it. `start` is in milliseconds."""
        start = start if start is not None else int(time.time() * 1000)
        given = {
            schema.SCHEMA: "1",
            schema.KIND: "task",
            schema.KEY: uuid.uuid4().hex,
            schema.FINGERPRINT: sha256_text(what),
            schema.STATE: "SUCCEEDED",
            schema.PIPELINE: self.pipeline,
            schema.COMPONENT: "train",
            **{f"intermodal.{name}": value for name, value in tags.items()},
        }
        for tag, words in ((schema.INPUTS, inputs), (schema.OUTPUTS, outputs)):
            if words:
                given[tag] = json.dumps({word: sha256_text(word) for word in words})
        run = self.client.create_run(self.experiment, start_time=start, tags=given, run_name=what).info.run_id
        self.client.log_batch(
            run,
            metrics=[Metric(name, value, start, 0) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
        )
        if status != "RUNNING":
            self.client.set_terminated(run, status, end_time=start + 10)
        return run

    def tag(self, run: str, name: str, value: str) -> None:
        self.client.log_batch(run, tags=[RunTag(name, value)])

"""Scores of a training, logged to the MLflow run that whoever started this process opened for it. Standard library only.

AzureML sets MLFLOW_TRACKING_URI (`azureml://`, which is https), MLFLOW_TRACKING_TOKEN and MLFLOW_RUN_ID in every job, and a sweep reads
its objective from that run; KFP's MLflow proposal (KEP-12862) sets the same names. A run is never started here.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.kfp_io import StepError

if TYPE_CHECKING:
    from components.trainer.settings import TrainingSettings

HYPERPARAMETERS_TAG = "intermodal.hyperparameters"
"""Tag of the run: the hyperparameters that were really trained with, as JSON. Params would be texts, and AzureML writes its own."""

_PATIENCE = (0.5, 2.0, 5.0)
"""Seconds between attempts: the service asks for patience with 429 and 503."""
_TIMEOUT = 20.0


def score_name(settings: TrainingSettings) -> str:
    """Return what the scores are of: `validation`, or `learned` where those documents were learned from."""
    return "learned" if settings.all_data else "validation"


class Tracking:
    """Logs to one run. A failure is one line on stdout and the training goes on, unless the scores are `required`."""

    def __init__(self, address: str, run: str, token: str, *, required: bool) -> None:
        self._url = f"{address}/api/2.0/mlflow/runs/log-batch"
        self._run = run
        self._token = token
        self._required = required
        self._score = "validation_macro_f1"
        self._best: float | None = 0.0

    def start(self, hyperparameters: Mapping[str, Any], settings: TrainingSettings) -> None:
        """Say what is trained with. Raises StepError if required and impossible: before hours are spent."""
        self._score = f"{score_name(settings)}_macro_f1"
        self._best = None if settings.all_data else 0.0  # a refit keeps its last epoch, not its best
        self._log(tags={HYPERPARAMETERS_TAG: json.dumps(dict(hyperparameters), sort_keys=True)}, metrics={}, step=0)

    def epoch(self, number: int, macro_f1: float) -> None:
        """Log an epoch, from 1 on. The score is the best so far: its last value is the trial's, whichever one the service takes."""
        score = macro_f1
        if self._best is not None:
            score = self._best = max(self._best, macro_f1)
        self._log(tags={}, metrics={self._score: score, "epoch_macro_f1": macro_f1}, step=number)

    def _log(self, *, tags: Mapping[str, str], metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        body = {
            "run_id": self._run,
            "metrics": [{"key": key, "value": value, "timestamp": now, "step": step} for key, value in metrics.items()],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        try:
            self._post(body)
        except (OSError, ValueError) as error:
            message = f"the scores could not be logged to run {self._run}: {error}"
            if self._required:
                raise StepError(message) from error
            print(message, flush=True)

    def _post(self, body: Any) -> None:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers, method="POST")
        for wait in (*_PATIENCE, None):
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                    answer.read()
                return
            except urllib.error.HTTPError as error:
                if wait is None or (error.code != 429 and error.code < 500):
                    raise OSError(f"{error.code} {error.reason}") from None
            except OSError:
                if wait is None:
                    raise
            time.sleep(wait)


class NoTracking(Tracking):
    """Nobody opened a run for this process."""

    def __init__(self) -> None:
        super().__init__("", "", "", required=False)

    def _log(self, *, tags: Mapping[str, str], metrics: Mapping[str, float], step: int) -> None:
        return


def open_tracking(environment: Mapping[str, str], *, required: bool) -> Tracking:
    """Return the run of this process. Raises StepError if it is `required` and the variables do not name one."""
    address, run = environment.get("MLFLOW_TRACKING_URI", ""), environment.get("MLFLOW_RUN_ID", "")
    scheme, separator, rest = address.partition("://")
    if run and separator and scheme in ("azureml", "https", "http"):
        place = rest.partition("?")[0].rstrip("/")
        secure = "https" if scheme == "azureml" else scheme
        return Tracking(f"{secure}://{place}", run, environment.get("MLFLOW_TRACKING_TOKEN", ""), required=required)
    if required:
        raise StepError(
            "this process has no MLflow run to log to",
            hint="a managed job has MLFLOW_TRACKING_URI (azureml, https or http) and MLFLOW_RUN_ID",
        )
    return NoTracking()

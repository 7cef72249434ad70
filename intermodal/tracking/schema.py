"""The tag schema: what every MLflow run that Intermodal makes says of itself. docs/tracking.md explains it to users.

The tree is that of KFP's MLflow proposal (KEP-12862): pipeline run -> task run -> trial run, by MLflow's own tag
`mlflow.parentRunId`; one experiment for each pipeline name. A value is text, at most MAX_TAG characters.
"""

from __future__ import annotations

from typing import Literal

from intermodal.engine.told import VARIABLE

SCHEMA_VERSION = "1"
"""Of this module: changes when a tag's meaning does."""

MAX_TAG = 5000
"""Characters of a value; longer ones are not cut but left out, since half a JSON document says nothing."""

Kind = Literal["pipeline", "task", "trial"]

SCHEMA = "intermodal.schema"
"""SCHEMA_VERSION."""
KIND = "intermodal.kind"
"""`pipeline`, `task` or `trial`."""
KEY = "intermodal.key"
"""What names one MLflow run for good, so that it is never made twice: RUN, RUN/TASK@ATTEMPT (RUN/TASK where no attempt was started),
RUN/TASK@ATTEMPT#TRIAL."""
RUN = "intermodal.run"
"""Id of the run in the state folder."""
TASK = "intermodal.task"
"""Path of the task as `intermodal show` prints it, with its iterations: `for-loop-1/0/train`."""
ATTEMPT = "intermodal.attempt"
"""Number of the attempt, from 1; absent where a task started none. Each attempt of a task is a task run of its own."""
FINGERPRINT = "intermodal.fingerprint"
"""Identity. Of a task: its fingerprint. Of a pipeline run: `names.pipeline_identity`. Of a trial: `names.trial_identity`."""
STATE = "intermodal.state"
"""The engine's own state (SUCCEEDED, CACHED, FAILED, SKIPPED, CANCELLED, RUNNING); of a trial Optuna's (COMPLETE, PRUNED, ...)."""
FAILURE = "intermodal.failure"
"""Failure class of what failed."""
CACHED_FROM = "intermodal.cached_from"
"""RUN/TASK whose result a cached task took."""
PIPELINE = "intermodal.pipeline"
"""Name of the pipeline."""
COMPONENT = "intermodal.component"
"""Name of the task's component."""
IMAGE = "intermodal.image"
"""Content digest of the image that the attempt ran."""
BACKEND = "intermodal.backend"
"""`docker`, `process`, ..."""
GIT_COMMIT = "intermodal.git.commit"
"""Commit of the project's checkout when the run was started; absent where there is none."""
GIT_DIRTY = "intermodal.git.dirty"
"""`true` if tracked files differed from that commit, else `false`."""
INPUTS = "intermodal.inputs"
"""JSON: name of an input artifact -> its content digest (a list of them for a list). Lineage is found by this and OUTPUTS."""
OUTPUTS = "intermodal.outputs"
"""JSON: name of an output artifact -> its content digest, in the same way."""
STUDY = "intermodal.study"
"""Name of a trial's study."""
TRIAL = "intermodal.trial"
"""Number of a trial in its study."""
HARDWARE = "intermodal.hardware"
"""JSON: `cpus`, `memory` (bytes), `gpus`, `processor`, `system` of the machine that ran it."""

PARENT = "mlflow.parentRunId"
"""MLflow's own: what makes the tree."""

TRACKING_FILE = VARIABLE
"""Variable of a step: the path of the file to which it appends JSON lines (`components/tracking_file.py`)."""

STATUS = {
    "RUNNING": "RUNNING",
    "SUCCEEDED": "FINISHED",
    "CACHED": "FINISHED",
    "SKIPPED": "FINISHED",
    "FAILED": "FAILED",
    "CANCELLED": "KILLED",
    "INTERRUPTED": "KILLED",
}
"""The engine's state -> MLflow's status."""

TRIAL_STATUS = {
    "WAITING": "SCHEDULED",
    "RUNNING": "RUNNING",
    "COMPLETE": "FINISHED",
    "PRUNED": "KILLED",
    "FAIL": "FAILED",
}
"""Optuna's state of a trial -> MLflow's status, as MLflow's own Optuna storage maps them."""


def run_key(run: str, task: str = "", *, attempt: int | None = None) -> str:
    """Return the value of KEY; of a pipeline's run, if there is no task."""
    return run + (f"/{task}" if task else "") + (f"@{attempt}" if attempt is not None else "")


def trial_key(attempt_key: str, trial: int) -> str:
    """Return the value of KEY for a trial that an attempt told of."""
    return f"{attempt_key}#{trial}"

"""Submitting a job by azure-ai-ml's own client and waiting for it, whatever the network does meanwhile."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from intermodal.errors import ExitCode, IntermodalError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

_ENDED = frozenset({"Completed", "Failed", "Canceled", "NotResponding"})
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
_MOST_TASKS = 10
"""Failed tasks whose logs are brought."""
_MOST_CHILDREN = 5000
T = TypeVar("T")


@dataclass(frozen=True)
class FailedTask:
    """A node of a pipeline job, a trial of a sweep, or the job itself."""

    name: str
    """The name of its job."""
    display_name: str
    status: str
    log_tail: str
    """The last lines that it wrote, empty if it wrote nothing."""


class JobFailed(IntermodalError):
    """A job that did not complete. `job` is as the service showed it last; `failed` are its tasks that failed, with their logs' ends."""

    exit_code = ExitCode.RUN_FAILED

    def __init__(self, job: Any, failed: tuple[FailedTask, ...], word: str) -> None:
        self.job = job
        self.failed = failed
        tasks = ", ".join(task.display_name for task in failed)
        super().__init__(
            f"job {job.name} {word}" + (f": {tasks}" if tasks else ""), hint=getattr(job, "studio_url", None)
        )

    def __str__(self) -> str:
        tails = [
            f"--- log of {task.display_name}, its last lines\n{task.log_tail}" for task in self.failed if task.log_tail
        ]
        return "\n".join([self.message, *tails])


class JobTimedOut(JobFailed):
    """A job that was not over in time. It has been cancelled."""


def submit_and_wait_for_job(
    ml_client: MLClient,
    job: Job,
    *,
    timeout: float | None = None,
    poll: float = 5.0,
    patience: float = 600.0,
    log_lines: int = 20,
    on_status: Callable[[str], None] | None = None,
) -> Job:
    """Submit a job, wait until it has completed, and return it as the service shows it then.

    Args:
        ml_client: azure-ai-ml's client of the workspace.
        job: any job entity. One without a name gets one, so that a request that is sent again starts nothing twice.
        timeout: seconds after which the job is cancelled and JobTimedOut raised; None waits for ever.
        poll: seconds between two looks.
        patience: seconds for which the service may be out of reach (429, 5xx, no connection) before the error is raised. The job
            goes on then; calling this again with a job of the same name waits for that one.
        log_lines: lines of each failed task's log in the error.
        on_status: told each new status of the job.

    A KeyboardInterrupt, or whatever else is raised in the waiting thread, cancels the job and is raised again. Raises JobFailed if
    the job failed or was cancelled, with the tasks that did not complete and the ends of their logs.
    """
    if not getattr(job, "name", None):
        job.name = f"job-{uuid.uuid4().hex[:16]}"
    name = str(job.name)
    deadline = time.monotonic() + timeout if timeout is not None else None
    retry = _Retry(patience)
    try:
        found = retry(lambda: _submit(ml_client, job, name))
        status = ""
        while True:
            if _status(found) != status:
                status = _status(found)
                if on_status is not None:
                    on_status(status)
            if status in _ENDED:
                break
            if deadline is not None and time.monotonic() > deadline:
                _cancel(ml_client, name)
                raise JobTimedOut(found, (), f"was not over after {timeout:g} s and is cancelled")
            time.sleep(max(0.0, min(poll, deadline - time.monotonic() if deadline is not None else poll)))
            found = retry(lambda: ml_client.jobs.get(name))
    except JobTimedOut:
        raise
    except BaseException as error:
        if not _is_passing(error):  # else it goes on, and who calls may wait for it again
            _cancel(ml_client, name)
        raise
    if status != "Completed":
        word = "was cancelled" if status == "Canceled" else "failed"
        raise JobFailed(found, tuple(_failed_tasks(ml_client, found, retry, log_lines)), word)
    return cast("Job", found)


def _submit(ml_client: MLClient, job: Any, name: str) -> Any:
    """Submit it unless an earlier request, whose answer was lost, has."""
    from azure.core.exceptions import ResourceNotFoundError

    with contextlib.suppress(ResourceNotFoundError):
        return ml_client.jobs.get(name)
    return ml_client.jobs.create_or_update(job)


def _cancel(ml_client: MLClient, name: str) -> None:
    """Ask for an end, as far as that can be asked now: what brought us here is what is raised."""
    from azure.core.exceptions import AzureError

    with contextlib.suppress(AzureError):
        ml_client.jobs.begin_cancel(name)


class _Retry:
    """Calls again what failed in passing, for as long as the patience lasts."""

    def __init__(self, patience: float) -> None:
        self._patience = patience

    def __call__(self, call: Callable[[], T]) -> T:
        began, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return call()
            except Exception as error:
                if not _is_passing(error) or time.monotonic() - began > self._patience:
                    raise
            time.sleep(wait)
            wait = min(_LONGEST_WAIT, wait * 2)


def _is_passing(error: BaseException) -> bool:
    """Whether the same request may be answered later."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    if isinstance(error, HttpResponseError):
        return error.status_code in _PASSING or error.status_code is None
    return isinstance(error, ServiceRequestError | ServiceResponseError | ConnectionError)


def _failed_tasks(ml_client: MLClient, job: Any, retry: _Retry, lines: int) -> Iterator[FailedTask]:
    # Without a number the SDK gives the first hundred, and does not say that there are more.
    children = retry(lambda: list(ml_client.jobs.list(parent_job_name=job.name, max_results=_MOST_CHILDREN)))
    failed = [child for child in children if child is not None and child.status in ("Failed", "NotResponding")]
    for child in (failed or ([job] if job.status == "Failed" else []))[:_MOST_TASKS]:
        shown = str(child.display_name or child.name)
        yield FailedTask(str(child.name), shown, _status(child), _log_tail(ml_client, child.name, retry, lines))


def _status(job: Any) -> str:
    """Return a job's status as the service spells it; of a sweep the SDK gives an enumeration."""
    return str(getattr(job.status, "value", job.status))


def _log_tail(ml_client: MLClient, name: str, retry: _Retry, lines: int) -> str:
    from azure.core.exceptions import AzureError

    with tempfile.TemporaryDirectory(prefix="intermodal-") as folder:
        try:
            retry(lambda: ml_client.jobs.download(name, download_path=folder))
        except AzureError as error:
            return f"(its log cannot be had: {' '.join(str(error).split())[:200]})"
        logs = sorted(Path(folder).rglob("user_logs/std_log*.txt"))
        text = logs[0].read_text(encoding="utf-8", errors="backslashreplace") if logs else ""
    shown = ["".join(c if c.isprintable() or c == "\t" else " " for c in line) for line in text.splitlines()[-lines:]]
    return "\n".join(shown)

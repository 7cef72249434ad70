"""What the metas of a job's nodes mean for the pipeline: with the launcher's own code, here for all nodes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intermodal.backends.azureml.launcher.known import Known, Meta, Run
from intermodal.backends.remote.contract import Group, Outcome
from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.artifacts import Inputs as Arguments
from intermodal.engine.decide import Result
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.resolve import bind
from intermodal.engine.states import State
from intermodal.errors import BadInput
from intermodal.spec.types import Pipeline


class Meaning:
    """One run's pipeline and what it was compiled with (`place`, as the record keeps it)."""

    def __init__(self, pipeline: Pipeline, inputs: Inputs, place: Mapping[str, Any]) -> None:
        self._pipeline = pipeline
        self._place = place
        imported = {key: Artifact.from_json(item) for key, item in place["imported"].items()}
        given = {key[1:]: (item,) for key, item in imported.items() if key.startswith(":")}
        self._root = bind(pipeline.root, Arguments(inputs.parameters, given), f"pipeline {pipeline.name}", inner=True)
        self._imported = {key.partition(":")[0]: item for key, item in imported.items() if not key.startswith(":")}
        self._leaves = [path for path in place["nodes"].values() if path]

    def inputs(self, path: str, metas: Mapping[str, Meta]) -> Inputs | None:
        """Return what a leaf was given; None if it did not run."""
        try:
            decision = self._known({key: meta for key, meta in metas.items() if key != path}).decide(path)
        except (BadInput, AssertionError, KeyError):  # a meta before it is gone: then its inputs are not known
            return None
        return decision.inputs if isinstance(decision, Run) else None

    def outcome(self, metas: Mapping[str, Meta], job: State) -> Outcome:
        """Return how the run ended; `job` is how its job did. A leaf whose node never ran gets what a local run would say of it."""
        complete: dict[str, Meta] = {}
        own: list[Group] = []
        for path in self._leaves:
            meta = metas.get(path) or self._not_run(path, complete, job)
            complete[path] = meta
            if path not in metas and meta.decided in ("", path) and not meta.absent:
                own.append(Group(path, meta.state, meta.outputs, meta.failure, meta.reason))
        known = self._known(complete)
        result = known.outcome()
        groups = [
            self._group(path, found, complete)
            for path, found in known.results().items()
            if path not in complete and not self._inside_undecided(path, complete)
        ]
        return Outcome(self._state(result, job), result.outputs, [*own, *groups])

    def _not_run(self, path: str, complete: Mapping[str, Meta], job: State) -> Meta:
        try:
            decision = self._known(complete).decide(path)
        except BadInput as error:
            return Meta(path, State.FAILED, failure=Failure(FailureClass.USER_CODE, error.message))
        if isinstance(decision, Meta):
            return decision
        why = "the run was cancelled" if job is State.CANCELLED else "its job never started"
        return Meta(path, State.CANCELLED, reason=why)

    def _group(self, path: str, found: Result, metas: Mapping[str, Meta]) -> Group:
        decided = next((meta for meta in metas.values() if meta.decided == path and not meta.absent), None)
        return Group(
            path,
            found.state,
            found.outputs,
            decided.failure if decided else None,
            decided.reason if decided else "",
        )

    @staticmethod
    def _inside_undecided(path: str, metas: Mapping[str, Meta]) -> bool:
        """Whether a group around this one did not run: then nothing is said of what is inside."""
        return any(meta.decided and path.startswith(f"{meta.decided}/") for meta in metas.values())

    @staticmethod
    def _state(result: Result, job: State) -> State:
        """A run is green only if its job completed and no task says otherwise."""
        if job is not State.SUCCEEDED:
            return job
        return result.state if result.state.green else State.FAILED

    def _known(self, metas: Mapping[str, Meta]) -> Known:
        job = self._place["job"]
        names = {
            "pipeline_job_name": self._pipeline.name,
            "pipeline_job_resource_name": job,
            "pipeline_job_uuid": job,
            "pipeline_root": f"azureml://runs/{job}",
        }
        return Known(
            self._pipeline,
            self._root,
            dict(metas),
            self._imported,
            self._place["bounds"],
            names,
            self._place["success"],
        )

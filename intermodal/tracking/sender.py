"""Sends a run of the record to MLflow: whatever the server lacks, and nothing twice.

Runs are made once: whoever sends holds the run's lock, and asks the server first what it has of the run, so that one made by a process
that was killed before it could note that is found. What is sent again after a kill changes nothing: to MLflow a point is its name, step,
time and value, a parameter its name and value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from intermodal.tracking import schema
from intermodal.tracking.lines import Told, as_values, read_told
from intermodal.tracking.names import run_name, trial_identity
from intermodal.tracking.outbox import Outbox, Sent
from intermodal.tracking.rest import Client, Rejected, pairs
from intermodal.tracking.tree import INTERRUPTED, Node, Tree
from intermodal.turns import alone

_PARAMS, _TAGS, _POINTS, _DATASETS = 100, 100, 1000, 100
"""Of each at most in one request; MLflow's own bounds."""
_LONGEST_NAME = 250
_MOST_REFUSED = 100
_OPEN = ("RUNNING", "SCHEDULED", "")


class Sender:
    """Sends one run. Raises Unreachable; what the server refuses for good is left out and noted in `refused`."""

    def __init__(self, client: Client, outbox: Outbox, run: str) -> None:
        self._client = client
        self._outbox = outbox
        self._run = run
        self._sent: dict[str, Sent] = {}
        self._studies: dict[str, str] = {}
        """Key of a trial -> its study."""
        self._experiment = ""
        self.refused: list[str] = []

    def send(self, tree: Tree) -> None:
        """Send what is missing of the tree as it is now."""
        if not self._experiment:
            self._meet(tree)
        for node in (tree.root, *tree.tasks):
            self._send_node(node, tree.root.key)

    def _meet(self, tree: Tree) -> None:
        """Learn what the server has of the run."""
        experiment = self._client.experiment(tree.experiment)
        there: dict[str, str] = {}
        answers = self._client.search([experiment], f"tags.`{schema.RUN}` = '{self._run}'", deleted=True)
        for found in (run for answer in answers for run in answer.get("runs", ())):
            tags = {tag["key"]: tag["value"] for tag in found["data"].get("tags", ())}
            there[tags.get(schema.KEY, "")] = found["info"]["run_id"]
            if schema.STUDY in tags:
                self._studies[tags[schema.KEY]] = tags[schema.STUDY]
        known = self._outbox.of_run(self._run)
        if any(there.get(key) != sent.mlflow_run for key, sent in known.items()):
            self._outbox.forget(self._run)  # the server was emptied, or is another one at the same address
            known = {}
        self._sent = {key: known.get(key, Sent(run, experiment)) for key, run in there.items() if key}
        self._experiment = experiment

    def _send_node(self, node: Node, root: str) -> None:
        sent = self._ensure(node.key, node.name, node.start, node.tags, None if node.key == root else root)
        if not sent.identity:
            self._log(sent.mlflow_run, node.params, {}, ())  # before what the step tells: the first value stays
        sent = self._send_told(node, sent)
        identity = node.identity()
        if sent.identity == identity:
            return
        self._log(sent.mlflow_run, node.params, node.tags, node.points)
        for some in _split(node.datasets, _DATASETS):
            with self._may_refuse(node.key):
                self._client.log_inputs(sent.mlflow_run, some)
        if node.over:
            self._close_trials(node)
        self._client.update_run(sent.mlflow_run, node.status, node.end)
        self._note(node.key, replace(sent, identity=identity, status=node.status))

    def _ensure(self, key: str, name: str, start: int, tags: Mapping[str, str], parent: str | None) -> Sent:
        """Return the MLflow run of that key, made if the server has none."""
        if key not in self._sent:
            above = {schema.PARENT: self._sent[parent].mlflow_run} if parent else {}
            run = self._client.create_run(
                self._experiment, name[:_LONGEST_NAME], start, {**tags, schema.KEY: key, **above}
            )
            self._note(key, Sent(run, self._experiment))
        return self._sent[key]

    def _note(self, key: str, sent: Sent) -> None:
        self._sent[key] = sent
        self._outbox.put(self._run, key, sent)

    # What a step told

    def _send_told(self, node: Node, sent: Sent) -> Sent:
        if node.folder is None:
            return sent
        for told, position in read_told(node.folder, sent.position, node.start):
            for trial, what in sorted(told.items(), key=lambda item: -1 if item[0] is None else item[0]):
                if trial is None:
                    params = {name: value for name, value in what.params.items() if name not in node.params}
                    self._log(sent.mlflow_run, params, what.tags, what.points)
                else:
                    self._send_trial(node, trial, what)
            sent = replace(sent, position=position)
            self._note(node.key, sent)
        return sent

    def _send_trial(self, node: Node, number: int, told: Told) -> None:
        key = self._trial_key(node, number, told.study)
        tags = {name: value for name, value in node.tags.items() if name in _PASSED_ON}
        tags |= {schema.KIND: "trial", schema.TRIAL: str(number), schema.STATE: told.state or "RUNNING"}
        name = f"trial {number}"
        if told.params:  # they come first; whoever only says what became of a trial does not know its identity
            searched, tried = told.study or node.tags.get(schema.FINGERPRINT, node.key), as_values(told.params)
            tags[schema.FINGERPRINT] = trial_identity(searched, node.tags.get(schema.IMAGE, ""), tried)
            name = run_name("trial", tags[schema.FINGERPRINT], tried)
        trial = self._ensure(key, name, told.first, tags, node.key)
        tags = {**told.tags, **({schema.STATE: told.state} if told.state else {})}
        if told.study:
            tags[schema.STUDY] = told.study
        self._log(trial.mlflow_run, told.params, tags, told.points)
        status = schema.TRIAL_STATUS.get(told.state, trial.status or "RUNNING")
        if status != trial.status:
            self._client.update_run(trial.mlflow_run, status, None if status in _OPEN else told.last)
            self._note(key, replace(trial, status=status))

    def _trial_key(self, node: Node, number: int, study: str) -> str:
        """Return the key of a trial: of another worker's, if this one only says what became of it."""
        key = schema.trial_key(node.key, number)
        if study and key not in self._sent:
            same = (other for other, its in self._studies.items() if its == study and other.endswith(f"#{number}"))
            key = next(same, key)
        if study:
            self._studies[key] = study
        return key

    def _close_trials(self, node: Node) -> None:
        """End the trials that an attempt left open: it was killed in the middle of them."""
        for key, trial in list(self._sent.items()):
            if key.startswith(f"{node.key}#") and trial.status in _OPEN:
                self._log(trial.mlflow_run, {}, {schema.STATE: INTERRUPTED}, ())
                self._client.update_run(trial.mlflow_run, schema.STATUS[INTERRUPTED], node.end)
                self._note(key, replace(trial, status=schema.STATUS[INTERRUPTED]))

    # Requests

    def _log(
        self, run: str, params: Mapping[str, str], tags: Mapping[str, str], points: Sequence[Mapping[str, Any]]
    ) -> None:
        for some in _split(pairs(params), _PARAMS):
            self._log_params(run, some)
        for some in _split(pairs(tags), _TAGS):
            with self._may_refuse(run):
                self._client.log_batch(run, tags=some)
        for some in _split(points, _POINTS):
            with self._may_refuse(run):
                self._client.log_batch(run, metrics=some)

    def _log_params(self, run: str, params: Sequence[Mapping[str, str]]) -> None:
        """Log parameters; where one is refused (it has another value already, which stays) the others count."""
        try:
            self._client.log_batch(run, params=params)
        except Rejected:
            for one in params:
                with self._may_refuse(run):
                    self._client.log_batch(run, params=[one])

    @contextlib.contextmanager
    def _may_refuse(self, what: str) -> Iterator[None]:
        try:
            yield
        except Rejected as error:
            if len(self.refused) < _MOST_REFUSED:
                self.refused.append(f"{what}: {error}")


_PASSED_ON = frozenset(
    {
        schema.SCHEMA,
        schema.RUN,
        schema.PIPELINE,
        schema.BACKEND,
        schema.TASK,
        schema.COMPONENT,
        schema.ATTEMPT,
        schema.IMAGE,
        schema.GIT_COMMIT,
        schema.GIT_DIRTY,
        schema.INPUTS,
        "mlflow.source.name",
        "mlflow.source.type",
    }
)
"""Tags of an attempt that its trials have, too."""


def sending(folder: Path, patience: float) -> contextlib.AbstractContextManager[int]:
    """Hold the run of this folder for sending. Raises Busy if another process does so for longer than `patience` seconds."""
    return alone(folder / "tracking.lock", f"sending run {folder.name}", patience)


def _split(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]

"""The model registry: the champion of a run as a version of a registered MLflow model, with its lineage and its card.

The same bytes are one version: a version carries the content digest of what was registered, and who finds one with it takes that. MLflow
knows no "create unless there". Two registrars on one machine wait for each other. On two machines both may make a version; after that
each looks again, the lowest number stays, and who made another one takes it back. So when all are done there is one version, unless a
registrar is killed in the instant between the two; whoever registers the same bytes later takes the lowest.

No endpoint of MLflow 3's logged models is used (AzureML's MLflow has none): the model is written, logged as artifacts of the run,
and registered by where it lies.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.errors import BadInput, EnvironmentProblem, IntermodalError
from intermodal.results import read_run
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.tracking import schema
from intermodal.tracking.find import Finder, Place
from intermodal.tracking.find_conditions import conditions
from intermodal.tracking.outbox import Outbox
from intermodal.tracking.registry_card import Facts, model_card
from intermodal.tracking.registry_facts import champion_of, model_file, read_facts
from intermodal.tracking.rest import PASSWORD, USER, Rejected, Unreachable, credentials
from intermodal.tracking.sync import sync
from intermodal.tracking.target import URI, without_secrets
from intermodal.tracking.tree import is_tracked
from intermodal.turns import alone

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

DIGEST = "intermodal.digest"
"""Content digest of the artifact that was registered: what makes a version this one."""
_PATIENCE = 120.0
"""Seconds to wait for another process that registers a model of that name here."""
_SPARED = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Of MLflow's client, where the user says nothing else: its own bounds let one request take a quarter of an hour; it tells nobody."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model. `new`: this registration made it."""

    name: str
    version: int
    digest: str
    run: str
    mlflow_run: str
    new: bool

    @property
    def uri(self) -> str:
        """What `mlflow.onnx.load_model` and `mlflow models serve -m` take."""
        return f"models:/{self.name}/{self.version}"


def register_run(
    database: Database,
    state: StateFolder,
    place: Place,
    run_id: str,
    *,
    name: str | None = None,
    output: str = "champion",
) -> Registered:
    """Register the model that a run of the record gave as `output`, under `name` (default: the pipeline's).

    Raises BadInput (no such model, a run that failed or is none to track, a damaged file), EnvironmentProblem (the server, MLflow).
    """
    run = read_run(database, state, run_id)
    champion = champion_of(run, output)
    facts = read_facts(database, state, run, champion)
    if not is_tracked(database.query("SELECT * FROM runs WHERE id=?", (run_id,))[0]):
        raise BadInput(f"run {run_id}: is a replay, or went on elsewhere; it is not tracked")
    name = name or run.pipeline
    if not name.strip() or "/" in name or ":" in name:
        raise BadInput(f"model name {name!r}: must be a word without / and :")
    what = f"{place.index.uri} {name}"
    lock = place.index.path.parent / f"register-{sha256_text(what)[:16]}.lock"
    with alone(lock, f"registering model {name!r}", _PATIENCE):
        mlflow_run = _tracked(database, state, place, run_id)
        registry = Registry(place.open())
        version = registry.version_of(name, facts.digest)
        if version is not None:
            return Registered(name, version, facts.digest, run_id, mlflow_run, new=False)
        file, _ = model_file(champion)
        version, new = registry.register(name, file, facts, mlflow_run)
        return Registered(name, version, facts.digest, run_id, mlflow_run, new)


def _tracked(database: Database, state: StateFolder, place: Place, run_id: str) -> str:
    """Return MLflow's id of the pipeline's run; what the server lacks of it is sent first. Raises EnvironmentProblem, NotOneRun."""
    try:
        place.client.check()  # before whoever sends the run is waited for: it may be waiting for the same server
        with Outbox(place.index.path.parent, without_secrets(place.open())) as outbox:
            [sent] = sync(database, state, place.client, outbox, [run_id])
    except (Unreachable, Rejected) as error:
        raise EnvironmentProblem(f"the tracking server does not take run {run_id}: {error}") from error
    except (OSError, sqlite3.Error) as error:
        raise EnvironmentProblem(f"{place.index.path.parent}: {error}") from error
    if sent.problem:
        raise EnvironmentProblem(f"run {run_id} is not on the tracking server: {sent.problem}")
    place.bring_in_step()
    return Finder(place, check=True).one(conditions(fields={"run": run_id, "kind": "pipeline"})).id


class Registry:
    """The registry of one server, by MLflow's own client."""

    def __init__(self, uri: str) -> None:
        """`uri` may hold a password, of which MLflow's messages are kept free. Raises EnvironmentProblem if MLflow is not installed."""
        self._uri = without_secrets(uri)
        self._credentials = credentials(uri, os.environ)
        with self._asking():
            try:
                from mlflow import MlflowClient
            except ImportError as error:
                raise EnvironmentProblem(
                    "registering a model needs the Python package mlflow", hint="pip install 'intermodal[registry]'"
                ) from error
            self._client: MlflowClient = MlflowClient(self._uri, registry_uri=self._uri)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Let MLflow ask the server: by an address without a password, and not for ever. Raises EnvironmentProblem for what it raises.

        MLflow reads both from the environment of the process, at each request; it is as before at the end.
        """
        user, password = self._credentials
        given = {name: value for name, value in _SPARED.items() if name not in os.environ}
        given |= {URI: self._uri, **({USER: user, PASSWORD: password} if user else {})}
        before = {name: os.environ.get(name) for name in given}
        os.environ.update(given)
        try:
            yield
        except IntermodalError:
            raise
        except Exception as error:  # MLflow's, those of `requests`, and those of whichever store holds its artifacts
            raise EnvironmentProblem(
                f"model registry {self._uri}: {error}",
                hint="try again: the same model does not become a second version",
            ) from error
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def version_of(self, name: str, digest: str) -> int | None:
        """Return the lowest version of the model with this content, None if there is none."""
        with self._asking():
            return min((int(version.version) for version in self._versions(name, digest)), default=None)

    def register(self, name: str, file: Path, facts: Facts, mlflow_run: str) -> tuple[int, bool]:
        """Make a version; return its number, and whether it stayed: another registrar may have been first with the same bytes."""
        card = model_card(name, facts)
        tags = lineage_tags(facts)
        with self._asking():
            self._ensure_model(name)
            source = self._upload(file, facts, card, tags, mlflow_run)
            made = self._client.create_model_version(name, source, mlflow_run, tags=tags, description=card)
            first = self.version_of(name, facts.digest)
            if first is None or first >= int(made.version):
                return int(made.version), True
            self._client.delete_model_version(name, made.version)
            return first, False

    def _upload(self, file: Path, facts: Facts, card: str, tags: Mapping[str, str], mlflow_run: str) -> str:
        """Log the MLflow model as artifacts of the run and return where it lies."""
        from intermodal.tracking.registry_model import save_model

        place = f"models/{facts.digest[:16]}"
        with tempfile.TemporaryDirectory(prefix="intermodal-model-") as folder:
            saved = Path(folder) / "model"
            save_model(file, saved, card, tags, manifest=facts.manifest)
            self._client.log_artifacts(mlflow_run, str(saved), place)
        return f"{self._client.get_run(mlflow_run).info.artifact_uri}/{place}"

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _versions(self, name: str, digest: str) -> Iterator[ModelVersion]:
        token: Any = None
        while True:
            page = self._client.search_model_versions(
                f"name = '{name.replace(chr(39), '')}' AND tags.`{DIGEST}` = 'sha256:{digest}'", page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def lineage_tags(facts: Facts) -> dict[str, str]:
    """Return what a version says of where it came from."""
    tags = {
        schema.SCHEMA: schema.SCHEMA_VERSION,
        DIGEST: f"sha256:{facts.digest}",
        schema.RUN: facts.run,
        schema.PIPELINE: facts.pipeline,
        "intermodal.file": f"sha256:{facts.file_sha256}",
        "intermodal.steps": canonical_json({step.path: step.fingerprint for step in facts.steps}),
        "intermodal.images": canonical_json({step.component: step.image for step in facts.steps if step.image}),
        **{f"intermodal.data.{name}": ",".join(f"sha256:{item}" for item in some) for name, some in facts.data.items()},
    }
    if facts.commit:
        tags |= {schema.GIT_COMMIT: facts.commit, schema.GIT_DIRTY: str(facts.dirty).lower()}
    for key in ("backbone", "champion", "dataset_sha256"):
        if key in facts.manifest:
            tags[f"intermodal.{key}"] = str(facts.manifest[key])
    return {name: value for name, value in tags.items() if len(value) <= schema.MAX_TAG}

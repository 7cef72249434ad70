"""Experiment files, typed and checked, and how they become the pipeline's arguments.

An experiment is `configs/default.yaml` with the user's values over it. An unknown key, a wrong type, an unknown backbone, a broken
search space, a missing folder or a Hub that cannot be reached is known here, before anything starts.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.backbone.registry import LOCAL, hint_for, is_builtin, looks_like_hub_name, split_revision
from components.benchmarker.settings import parse_settings
from components.converter.builds import parse_conversion
from components.converter.tolerances import parse_tolerances
from components.hpo.search_space import parse_search_space
from components.hpo.settings import OPTIONS, parse_search
from components.hpo.settings import Search as SearchSettings
from components.kfp_io import StepError
from components.trainer.settings import parse_training
from intermodal.yaml12 import Loader
from pipelines.hub import current_commit, hub_endpoint

DEFAULT = Path(__file__).parent / "configs" / "default.yaml"
_SMOKE = {"search.trials": 1, "search.epochs": 1, "training.epochs": 1}
"""What stage smoke changes of the defaults; the user's own values win."""
_TEXT = ("data", "revision")
"""Keys whose text is no YAML: a commit such as 12e4567 is not a number."""


class ExperimentError(ValueError):
    """An experiment that cannot run: one line that names the key and the value."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Search(_Strict):
    trials: int = Field(ge=1)
    minutes: float = Field(ge=0)
    sampler: str
    pruner: str
    pruning: dict[str, Any]
    epochs: int = Field(ge=1)
    folds: int
    objectives: list[str]
    tolerance: float = Field(ge=0)
    mode: Literal["resume", "reuse", "new"]
    study: str
    dry_run: bool
    lease_seconds: float = Field(ge=1)

    def options(self) -> dict[str, Any]:
        """Return what the hpo step takes as `search`: what differs from its own defaults."""
        usual = {item.name: item.default for item in fields(SearchSettings)}
        given = self.model_dump(include=set(OPTIONS))
        if self.mode == "new":
            given |= {"mode": "resume", "study": self.study or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{token_hex(2)}"}
        same = {"pruning": {}, "objectives": list(usual["objectives"])}
        return {name: value for name, value in given.items() if value != same.get(name, usual[name])}


class Selection(_Strict):
    tolerance: float = Field(ge=0)
    latency_budget_ms: float = Field(ge=0)
    percentile: Literal["p50", "p95"]


class Experiment(_Strict):
    """One experiment. Every field is explained in configs/default.yaml."""

    stage: Literal["smoke", "full"]
    data: str | None
    size: Literal["tiny", "small", "full"]
    seed: int
    entity_types: list[str]
    validation_fraction: float = Field(gt=0, lt=1)
    test_fraction: float = Field(gt=0, lt=1)
    backbones: list[str] = Field(min_length=1)
    revision: str
    search_space: dict[str, dict[str, Any]]
    search: Search
    workers: int = Field(ge=1)
    training: dict[str, Any]
    gate: dict[str, float]
    conversion: dict[str, Any]
    benchmark: dict[str, int]
    selection: Selection
    refit: bool
    cpus: int | None = Field(ge=1)


def load_experiment(values: dict[str, Any]) -> Experiment:
    """Return the experiment of `values` over the defaults. Keys may be dotted (`training.epochs`); text is read as YAML.

    Raises ExperimentError naming the key and the value.
    """
    document = read_yaml(DEFAULT)
    for key in values:
        if not isinstance(key, str):
            raise ExperimentError(f"{key!r} is no key" + _suggestion(str(key), Experiment.model_fields))
    given = {key: value if key in _TEXT else _parsed(value) for key, value in values.items()}
    smoke = _SMOKE if given.get("stage", document["stage"]) == "smoke" else {}
    for key, value in [*smoke.items(), *given.items()]:
        _put(document, key, value)
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise ExperimentError(_explain(error)) from error


def to_arguments(experiment: Experiment) -> dict[str, Any]:
    """Check what only a look at the machine can tell, and return the pipeline's arguments. Raises ExperimentError."""
    try:
        space = parse_search_space(experiment.search_space)
        options = experiment.search.options()
        how = experiment.search
        parse_search(
            options, trials=how.trials, sampler=how.sampler, pruner=how.pruner, seed=experiment.seed, epochs=how.epochs
        )
        if how.sampler == "grid":
            space.check_finite()
        if parse_training(experiment.training).all_data:
            raise StepError(
                "training.all_data would let the models be chosen by documents that they learned from",
                hint="refit: true trains the chosen one again on all of them",
            )
        parse_tolerances(experiment.gate)
        parse_conversion(experiment.conversion)
        parse_settings(experiment.benchmark)
    except StepError as error:
        raise ExperimentError(_line(error)) from error
    names, hub, local = _backbones(experiment.backbones, experiment.revision)
    try:
        endpoint = hub_endpoint()
        pinned = [f"{name}@{current_commit(name, revision, endpoint)}" for name, revision in hub]
    except StepError as error:
        raise ExperimentError(f"backbones: {_line(error)}") from error
    cpus = experiment.cpus or len(os.sched_getaffinity(0))
    arguments: dict[str, Any] = {
        "size": experiment.size,
        "seed": experiment.seed,
        "entity_types": experiment.entity_types,
        "validation_fraction": experiment.validation_fraction,
        "test_fraction": experiment.test_fraction,
        "backbones": names,
        "hub_backbones": pinned,
        "hub_endpoint": endpoint,
        "search_space": experiment.search_space,
        "trials": experiment.search.trials,
        "sampler": experiment.search.sampler,
        "pruner": experiment.search.pruner,
        "search": options,
        "workers": list(range(experiment.workers)) if experiment.workers > 1 else [],
        "search_training": {**experiment.training, "epochs": experiment.search.epochs},
        "training": experiment.training,
        "gate": experiment.gate,
        "conversion": experiment.conversion,
        "benchmark": experiment.benchmark,
        "tolerance": experiment.selection.tolerance,
        "latency_budget_ms": experiment.selection.latency_budget_ms,
        "percentile": experiment.selection.percentile,
        "refits": [0] if experiment.refit else [],
        "cpus": cpus,
        # The workers of a search share what one search would take.
        "worker_cpus": max(1, cpus // experiment.workers),
    }
    if experiment.data:
        arguments["data"] = _folder(experiment.data, "data")
    if local is not None:
        arguments["local_backbone"] = local
    return arguments


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with numbers as people write them (`2e-5` is one)."""
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    if not isinstance(document, dict):
        raise ExperimentError(f"{path}: expected names and values")
    return document


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    """Set a possibly dotted key. A mapping given for `search`, `training` or `selection` changes only the keys that it has."""
    first, _, rest = key.partition(".")
    if rest:
        inner = document.get(first)
        if not isinstance(inner, dict):
            raise ExperimentError(f"{key}: {first!r} has no parts" + _suggestion(first, document))
        inner = dict(inner)
        _put(inner, rest, value)
        document[first] = inner
    elif (
        isinstance(value, dict)
        and first in ("search", "training", "selection")
        and isinstance(document.get(first), dict)
    ):
        document[first] = {**document[first], **value}
    else:
        document[first] = value


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return yaml.load(value, Loader=Loader)
    except yaml.YAMLError:
        return value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        owner: Any = {"search": Search, "selection": Selection}.get(str(first["loc"][0]), Experiment)
        return f"unknown key {key!r}" + _suggestion(str(first["loc"][-1]), owner.model_fields)
    return f"{key}: {first['msg'].lower()}, got {first['input']!r}"


def _suggestion(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"


def _folder(written: str, key: str) -> str:
    path = Path(written).expanduser()
    if not path.is_dir():
        raise ExperimentError(f"{key}: folder {written} {'is not a folder' if path.exists() else 'does not exist'}")
    return str(path.absolute())


def _line(error: StepError) -> str:
    return error.message + (f" ({error.hint})" if error.hint else "")


def _backbones(given: list[str], usual: str) -> tuple[list[str], list[tuple[str, str]], str | None]:
    """Return the names for the loop, those to fetch from the Hub with their revision (`usual` where none is given), and the
    folder of the user's own. Raises ExperimentError."""
    names: list[str] = []
    hub: list[tuple[str, str]] = []
    local: str | None = None
    for name in given:
        if name.startswith((".", "/", "~")):
            if local is not None:
                raise ExperimentError(f"backbones: {name} is a second folder; one run takes one")
            local = _folder(name, "backbones")
            names.append(LOCAL)
        elif name == LOCAL:
            raise ExperimentError("backbones: give your own backbone as the path of its folder")
        elif is_builtin(name):
            names.append(name)
        else:
            bare, revision = split_revision(name)
            if not looks_like_hub_name(bare) or revision == "":
                raise ExperimentError(f"backbones: {name!r} is not known ({hint_for(bare)})")
            names.append(bare)
            hub.append((bare, revision or usual))
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        raise ExperimentError(f"backbones: {sorted(doubles)[0]!r} stands twice")
    return names, hub, local

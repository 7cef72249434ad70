"""What comes into a job from outside: artifact arguments, importers, secrets, config maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.flatten import Flat, Leaf, Origin
from intermodal.backends.azureml.launcher.ports import outside_name
from intermodal.backends.azureml.names import port_name
from intermodal.backends.azureml.settings import AzureMLSettings
from intermodal.engine.artifacts import Artifact
from intermodal.engine.importer import resolve_importer
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import ConfigRef, Constant, Container, Importer

_SCHEMES = ("azureml", "https", "http", "wasbs", "wasb", "abfss", "abfs", "adl")


@dataclass(frozen=True)
class _Input:
    port: str
    uri: str
    artifact: Artifact

    @property
    def kind(self) -> str:
        if "://" not in self.uri:
            return "uri_file" if Path(self.uri).is_file() else "uri_folder"
        last = self.uri.rstrip("/").rpartition("/")[2]
        return "uri_file" if "." in last and not self.uri.endswith("/") else "uri_folder"


class External:
    """The data inputs of one job. Raises Unsupported naming the task for what AzureML cannot mount."""

    def __init__(self, flat: Flat, arguments: Mapping[str, Artifact], settings: AzureMLSettings) -> None:
        """`arguments` are the pipeline's artifact arguments; their `uri` is a path or an address."""
        self._flat = flat
        self._settings = settings
        self._inputs: dict[Origin, _Input] = {}
        for name, artifact in arguments.items():
            self._inputs[Origin("", name)] = _Input(port_name(name), artifact.uri, _outside("", name, artifact))
        for leaf in flat.leaves.values():
            if leaf.is_importer:
                for output in leaf.component.output_artifacts:
                    self._inputs[Origin(leaf.path, output)] = self._importer(leaf, output)

    def _importer(self, leaf: Leaf, output: str) -> _Input:
        importer = leaf.component.implementation
        if not isinstance(importer, Importer):
            raise AssertionError("only an importer imports")
        if leaf.task.condition:
            raise Unsupported(
                f"{leaf.path}: an importer with a condition of its own", hint="put it into a group (dsl.If)"
            )
        try:
            uri, metadata = resolve_importer(importer, leaf.known, {}, leaf.path)
        except BadInput as error:
            raise Unsupported(
                f"{leaf.path}: its URI is made when the pipeline runs; AzureML binds data at submission",
                hint="import a constant or an argument of the pipeline",
            ) from error
        scheme, separator, _ = uri.partition("://")
        if not separator or scheme not in _SCHEMES:
            raise Unsupported(
                f"{leaf.path}: imports {uri}: AzureML cannot mount {scheme if separator else 'a local path'}",
                hint="copy the data to a datastore and import azureml://datastores/...",
            )
        port = "import_" + port_name(leaf.path)
        artifact = Artifact("artifact", importer.type, uri=uri, metadata=metadata)
        return _Input(port, uri, _outside(leaf.path, output, artifact))

    def job_inputs(self) -> dict[str, Any]:
        """Return the data inputs of the job."""
        found = {item.port: {"type": item.kind, "path": item.uri, "mode": "ro_mount"} for item in self._inputs.values()}
        return dict(sorted(found.items()))

    def port(self, origin: Origin) -> str:
        return self._inputs[origin].port

    def kind(self, origin: Origin) -> str:
        return self._inputs[origin].kind

    def imported(self, leaf: Leaf | None) -> dict[str, Any]:
        """Return the artifacts of the importers that decide about a leaf (None: all), and of the arguments it takes."""
        wanted = None if leaf is None else {*leaf.after, ""}
        return {
            f"{origin.leaf}:{origin.output}": item.artifact.as_json()
            for origin, item in self._inputs.items()
            if wanted is None or origin.leaf in wanted
        }

    # Secrets and config maps

    def secrets(self, container: Container) -> list[dict[str, Any]]:
        """Return which Key Vault secret each key of a secret is. Names only: the launcher fetches the values."""
        found = []
        for reference in _references(container, "secret"):
            name = _constant(reference)
            table = self._settings.secrets.get(name)
            if table is None and not reference.optional:
                raise BadInput(
                    f"secret {name!r} is not in [tool.intermodal.azureml.secrets]",
                    hint=f'[tool.intermodal.azureml.secrets.{name}]  KEY = {{vault = "https://...", name = "..."}}',
                )
            found.append({"name": name, "keys": {key: item.model_dump() for key, item in (table or {}).items()}})
        return found

    def config_maps(self, container: Container) -> dict[str, dict[str, str]]:
        found = {}
        for reference in _references(container, "config map"):
            name = _constant(reference)
            table = self._settings.config_maps.get(name)
            if table is None and not reference.optional:
                raise BadInput(f"config map {name!r} is not in [tool.intermodal.azureml.config_maps]")
            found[name] = dict(table or {})
        return found


def _outside(leaf: str, output: str, artifact: Artifact) -> Artifact:
    return replace(artifact, digest=outside_name(leaf, output))


def _references(container: Container, kind: str) -> Sequence[ConfigRef]:
    settings = container.kubernetes
    every = [volume.config for volume in settings.config_volumes] + [item.config for item in settings.config_env]
    return [reference for reference in dict.fromkeys(every) if reference.kind == kind]


def _constant(reference: ConfigRef) -> str:
    if not isinstance(reference.name, Constant):
        raise Unsupported(f"a {reference.kind} whose name is an argument", hint="name it in the pipeline")
    return str(reference.name.value)

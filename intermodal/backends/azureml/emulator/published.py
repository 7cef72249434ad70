"""Bodies of requests, held against the models that Microsoft publishes (azure-mgmt-machinelearningservices).

The models are read as what they are, a description: names of fields, types, which are required, patterns, and the field that says
which kind a thing is. So an error names the field, which the models' own deserializer does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from intermodal.backends.azureml.emulator.answers import Refused

_BODIES = {
    "jobs": "JobBase",
    "codes": "CodeVersion",
    "data": "DataVersionBase",
    "environments": "EnvironmentVersion",
    "components": "ComponentVersion",
    "models": "ModelVersion",
}
_ASSET = frozenset({"stage", "intellectualProperty", "autoDeleteSetting"})
_OUTPUT = frozenset({"assetName", "assetVersion", "autoDeleteSetting", "pathOnCompute"})
NEWER: Mapping[str, frozenset[str]] = {
    "CommandJob": frozenset({"queueSettings", "notificationSetting", "parentJobName", "secretsConfiguration"}),
    "PipelineJob": frozenset({"notificationSetting", "secretsConfiguration"}),
    "SweepJob": frozenset({"queueSettings", "notificationSetting", "resources", "componentConfiguration"}),
    "JobResourceConfiguration": frozenset({"locations", "maxInstanceCount", "dockerArgsList"}),
    "EnvironmentVersionProperties": _ASSET,
    "ComponentVersionProperties": _ASSET,
    "ModelVersionProperties": _ASSET | {"datasets", "defaultDeploymentTemplate"},
    "UriFolderDataVersion": _ASSET,
    "UriFileDataVersion": _ASSET,
    "MLTableData": _ASSET,
    "UriFolderJobOutput": _OUTPUT,
    "UriFileJobOutput": _OUTPUT,
    "MLTableJobOutput": _OUTPUT,
    "CustomModelJobOutput": _OUTPUT,
    "MLFlowModelJobOutput": _OUTPUT,
    "TritonModelJobOutput": _OUTPUT,
    "UriFolderJobInput": frozenset({"pathOnCompute"}),
    "UriFileJobInput": frozenset({"pathOnCompute"}),
    "MLTableJobInput": frozenset({"pathOnCompute"}),
    "CustomModelJobInput": frozenset({"pathOnCompute"}),
    "MLFlowModelJobInput": frozenset({"pathOnCompute"}),
    "TritonModelJobInput": frozenset({"pathOnCompute"}),
}
"""Fields of later versions of the API (2024-01-01-preview, 2025-01-01-preview: mfe.json of Azure/azure-rest-api-specs) than the
models' 2023-04-01. They are taken as they are."""
_PRIMITIVES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "duration": (str,),
    "iso-8601": (str,),
}
_DURATION = re.compile(r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)")


def check_body(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a body without what only the service may set. Raises Refused, naming the field."""
    from azure.mgmt.machinelearningservices import models

    checked = _Check(vars(models)).model(_BODIES[kind], body, "")
    return dict(checked["properties"])


class _Check:
    def __init__(self, models: Mapping[str, Any]) -> None:
        self._models = models

    def model(self, name: str, value: Any, where: str) -> dict[str, Any]:
        """Return the value, which must be a thing of that model, without fields that are read only."""
        if not isinstance(value, Mapping):
            raise _wrong(where, f"must be an object, not {_short(value)}")
        model = self._kind(name, value, where)
        fields = {_key(entry["key"]): (attribute, entry) for attribute, entry in model._attribute_map.items()}
        rules = model._validation
        newer = NEWER.get(model.__name__, frozenset())
        kept: dict[str, Any] = {}
        for key, item in value.items():
            place = f"{where}.{key}" if where else key
            if key not in fields and key not in newer:
                raise _wrong(place, f"is no field of {model.__name__}")
            attribute, entry = fields.get(key, (key, {"type": "object"}))
            if rules.get(attribute, {}).get("readonly"):
                continue
            if item is not None:
                item = self._typed(entry["type"], item, place)
                _rule(rules.get(attribute, {}), item, place)
            kept[key] = item
        for key, (attribute, _) in fields.items():
            rule = rules.get(attribute, {})
            if rule.get("required") and not rule.get("readonly") and kept.get(key) is None:
                raise _wrong(f"{where}.{key}" if where else key, f"is required of {model.__name__}")
        return kept

    def _kind(self, name: str, value: Mapping[str, Any], where: str) -> Any:
        """Return the model, or the one below it that the value says it is."""
        model = self._models[name]
        for attribute, kinds in vars(model).get("_subtype_map", {}).items():
            key = _key(model._attribute_map[attribute]["key"])
            said = value.get(key)
            place = f"{where}.{key}" if where else key
            if said is None:
                raise _wrong(place, f"is required of {name}: one of {', '.join(sorted(kinds))}")
            # The client writes some discriminators in another case, and the service does not mind.
            known = {kind.lower(): kind for kind in kinds}
            if str(said).lower() not in known:
                raise _wrong(place, f"is {_short(said)}, not one of {', '.join(sorted(kinds))}")
            return self._kind(kinds[known[str(said).lower()]], value, where)
        return model

    def _typed(self, kind: str, value: Any, where: str) -> Any:
        if kind.startswith("{"):
            if not isinstance(value, Mapping):
                raise _wrong(where, f"must be an object, not {_short(value)}")
            inner = kind[1:-1]
            if inner == "str":  # the client sends numbers there, too; the service makes text of them
                value = {key: str(item) if isinstance(item, int | float) else item for key, item in value.items()}
            return {
                key: None if item is None else self._typed(inner, item, f"{where}.{key}") for key, item in value.items()
            }
        if kind.startswith("["):
            if not isinstance(value, list):
                raise _wrong(where, f"must be a list, not {_short(value)}")
            return [self._typed(kind[1:-1], item, f"{where}[{number}]") for number, item in enumerate(value)]
        if kind == "object":
            return value
        if kind in _PRIMITIVES:
            if not isinstance(value, _PRIMITIVES[kind]) or (isinstance(value, bool) and kind != "bool"):
                raise _wrong(where, f"must be of type {kind}, not {_short(value)}")
            if kind == "duration" and not _DURATION.fullmatch(str(value)):
                raise _wrong(where, f"is {_short(value)}, which is no ISO 8601 duration, e.g. PT1H30M")
            return value
        return self.model(kind, value, where)


def _key(name: str) -> str:
    return name.replace("\\.", ".")


def _rule(rule: Mapping[str, Any], value: Any, where: str) -> None:
    if isinstance(value, str):
        if len(value) < rule.get("min_length", 0):
            raise _wrong(where, "must not be empty")
        if "pattern" in rule and not re.search(rule["pattern"], value):
            raise _wrong(where, f"is {_short(value)}, which does not match {rule['pattern']}")
    if isinstance(value, int | float):
        if value > rule.get("maximum", value):
            raise _wrong(where, f"is {value}, more than {rule['maximum']}")
        if value < rule.get("minimum", value):
            raise _wrong(where, f"is {value}, less than {rule['minimum']}")


def _wrong(where: str, what: str) -> Refused:
    return Refused(400, "ValidationError", f"{where or 'The body'} {what}", target=where or None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"

"""`[tool.intermodal.kubeflow]`: where runs go. Who may send them is for kfp's own configuration to say; nothing here is a secret.

Every value can come from the environment instead: INTERMODAL_KUBEFLOW_<KEY>, e.g. INTERMODAL_KUBEFLOW_HOST.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from intermodal.errors import BadInput
from intermodal.settings import load_settings

PREFIX = "INTERMODAL_KUBEFLOW_"


class KubeflowSettings(BaseModel):
    """The table. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = ""
    """Address of the pipelines' API, e.g. `https://kubeflow.example/pipeline`."""
    namespace: str = ""
    """The profile's namespace, where there are several."""
    experiment: str = ""
    """Empty: the pipeline's name."""
    authority: str = ""
    """File of a certificate authority (PEM) to trust."""


def load_kubeflow_settings(project: Path | None, environment: Mapping[str, str]) -> KubeflowSettings:
    """Read the project's table, with values of the environment over it. Raises BadInput naming the key."""
    table = dict(load_settings(project).kubeflow)
    table |= {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    try:
        return KubeflowSettings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"[tool.intermodal.kubeflow] {'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint=", ".join(KubeflowSettings.model_fields),
        ) from error


def check_settings(settings: KubeflowSettings) -> None:
    """Raise BadInput if they do not say where runs go."""
    if not settings.host:
        raise BadInput(
            "[tool.intermodal.kubeflow] lacks host", hint=f"{PREFIX}HOST=https://..., or host = ... in pyproject.toml"
        )

"""Which workspace the emulator is, and the keys that only it knows: `workspace.json` in its folder, for its owner's eyes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from intermodal.errors import BadInput

AML_RESOURCE = "https://ml.azure.com"
"""The audience of the tokens that a pipeline job is submitted with (`aml_resource_id` of the cloud)."""
MANAGEMENT = "https://management.azure.com"
"""The audience of tokens for Azure itself; MLflow's clients ask for it."""
PROVIDER = "Microsoft.MachineLearningServices"
REGION = "local"


@dataclass(frozen=True)
class Identity:
    """The workspace's names, and its secrets: never log one."""

    subscription: str
    group: str
    workspace: str
    id: str
    """What the service calls workspaceId."""
    tenant: str
    token_key: str
    account: str
    """Name of the storage account."""
    account_key: str

    @property
    def scope(self) -> str:
        """The workspace's ARM id."""
        group = f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
        return f"{group}/providers/{PROVIDER}/workspaces/{self.workspace}"


def load_identity(folder: Path, subscription: str = "", group: str = "", workspace: str = "") -> Identity:
    """Return the workspace of a folder, made if there is none; what is given must be what it is. Raises BadInput."""
    path = folder / "workspace.json"
    if not path.is_file():
        return _create(path, subscription, group, workspace)
    try:
        found = Identity(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: not a workspace of the emulator: {error}") from error
    wanted = replace(
        found,
        subscription=subscription or found.subscription,
        group=group or found.group,
        workspace=workspace or found.workspace,
    )
    if wanted != found:
        raise BadInput(f"{folder} holds {found.scope}", hint=f"another folder for {wanted.scope}")
    return found


def _create(path: Path, subscription: str, group: str, workspace: str) -> Identity:
    made = Identity(
        subscription=subscription or str(uuid.UUID(int=0)),
        group=group or "emulator",
        workspace=workspace or "emulator",
        id=str(uuid.uuid4()),
        tenant=str(uuid.uuid4()),
        token_key=secrets.token_hex(32),
        account="emulator" + secrets.token_hex(4),
        account_key=base64.b64encode(secrets.token_bytes(64)).decode(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(made), file, indent=2)
    return made

"""Claims (PVCs) that a pipeline makes and deletes with kfp-kubernetes' CreatePVC and DeletePVC: folders of the state folder.

On a cluster the KFP driver does this itself; the images that the compiler writes for it are never run there either.
Source: `createPVC` and `deletePVC` in `driver/k8s.go` of the KFP backend.
"""

from __future__ import annotations

from intermodal.engine.artifacts import Outputs
from intermodal.engine.graph import Work
from intermodal.engine.layout import StateFolder
from intermodal.engine.temporary import discard
from intermodal.errors import BadInput
from intermodal.spec.types import Container

CREATE, DELETE = CLAIM_IMAGES = "argostub/createpvc", "argostub/deletepvc"
"""Images that exist nowhere: they stand for an operation."""


def is_claim_operation(work: Work) -> bool:
    """Whether a leaf makes or deletes a claim."""
    container = work.component.implementation
    return isinstance(container, Container) and container.image in CLAIM_IMAGES


def operate_claim(work: Work, state: StateFolder, run_id: str) -> Outputs:
    """Make or delete the claim that the leaf names; return its outputs. Raises BadInput.

    Size, access modes and storage class mean nothing for a folder of this machine.
    """
    container = work.component.implementation
    given = work.inputs.parameters
    if isinstance(container, Container) and container.image == DELETE:
        name = str(given.get("pvc_name") or "")
        if not name:
            raise BadInput(f"{work.path}: the claim to delete has no name")
        discard(state.volume(name, ""))
        return Outputs()
    name, suffix = str(given.get("pvc_name") or ""), str(given.get("pvc_name_suffix") or "")
    if bool(name) == bool(suffix):
        raise BadInput(f"{work.path}: a claim is made with either pvc_name or pvc_name_suffix")
    if given.get("data_source") or given.get("volume_name"):
        raise BadInput(f"{work.path}: data_source and volume_name name things of a cluster; a folder has neither")
    claim = name or f"{run_id}-{suffix}"
    state.volume(claim, "")
    return Outputs(parameters={"name": claim})

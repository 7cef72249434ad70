"""URIs of artifacts: what a step is told, where the KFP SDK then looks for the content, and how an importer finds it again.

In KFP a URI means the same in every task, so a step may hand one on and an importer may import it. An artifact of the store has
`/kfp/store/<digest>/<name>`, at which its content is mounted too: SDKs before 2.15 know no other path than what the URI says.
Source: `LocalPathForURI` in `launcher_v2.go` of the KFP backend, `_get_path` in `artifact_types.py` of the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from intermodal.engine.naming import safe_name

IN_WORKSPACE = "_kfp_workspace"
"""The metadata key of an artifact that an importer has put into the workspace."""
WORKSPACE = "/kfp-workspace"
"""Where KFP mounts a pipeline's workspace."""

_MOUNTED = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
_STORED = re.compile(r"/kfp/store/(?P<digest>[0-9a-f]{64})/[^/]+")


def store_uri(digest: str, name: str) -> str:
    """Return the URI of content of the store; `name` is what its last part is called."""
    return f"/kfp/store/{digest}/{safe_name(name)}"


def stored_digest(uri: str) -> str | None:
    """Return the digest in a URI that `store_uri` made, None for any other."""
    match = _STORED.fullmatch(uri)
    return match["digest"] if match else None


def is_mounted(uri: str) -> bool:
    """Whether KFP shows the content of `uri` at a path of its own in every step."""
    return uri.startswith((*_MOUNTED, "oci://"))


def path_of(uri: str, metadata: Mapping[str, Any]) -> str:
    """Return the path at which the SDK looks for the content of an artifact."""
    path = uri
    if uri.startswith("oci://"):
        path = f"/oci/{uri[len('oci://') :].replace('/', '_')}/models"
    for scheme, folder in _MOUNTED.items():
        if uri.startswith(scheme):
            path = folder + uri[len(scheme) :]
    return f"{WORKSPACE}/.artifacts/{path.lstrip('/')}" if metadata.get(IN_WORKSPACE) is True else path

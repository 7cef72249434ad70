"""Names of the step images, in one place."""

from __future__ import annotations

import os


def image(step: str) -> str:
    """Return the image reference of `step`, e.g. `intermodal/trainer:dev`.

    INTERMODAL_IMAGE_PREFIX (default `intermodal/`) and INTERMODAL_IMAGE_TAG (default `dev`) change it when a pipeline is
    compiled for another registry.
    """
    prefix = os.environ.get("INTERMODAL_IMAGE_PREFIX", "intermodal/")
    tag = os.environ.get("INTERMODAL_IMAGE_TAG", "dev")
    return f"{prefix}{step}:{tag}"

"""IR YAML whose images are those of a registry, by digest: what a cluster pulls, and pulls the same tomorrow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from intermodal.bounded import read_yaml


def name_images(ir: Path, images: Mapping[str, str]) -> list[str]:
    """Rewrite an IR file so that each image that `images` knows is named as it says; return the images without a digest."""
    import yaml

    documents = read_yaml(ir)
    executors = documents[0].get("deploymentSpec", {}).get("executors", {})
    containers = [item["container"] for item in executors.values() if "container" in item]
    for container in containers:
        container["image"] = images.get(container["image"], container["image"])
    if images:
        with ir.open("w", encoding="utf-8") as stream:
            yaml.safe_dump_all(documents, stream, sort_keys=True, allow_unicode=True)
    return sorted({item["image"] for item in containers if "@sha256:" not in item["image"]})

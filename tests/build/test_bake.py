"""The targets of `docker buildx bake` are the images of the project, and what a bake pushed is locked by digest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from intermodal.build.context import TORCH, recipes
from intermodal.build.images import assemble_contexts
from intermodal.build.push import lock_baked
from intermodal.errors import BadInput

PROJECT = Path(__file__).parents[2]


def _names(pattern: str) -> set[str]:
    (found,) = re.findall(pattern, (PROJECT / "images/docker-bake.hcl").read_text(encoding="utf-8"), re.DOTALL)
    return set(re.findall(r'"([\w-]+)"', found))


def test_every_image_is_a_target_on_what_its_dockerfile_stands_on() -> None:
    steps = [recipe for recipe in recipes(PROJECT) if recipe.name != TORCH]
    on_torch = {recipe.name for recipe in steps if recipe.on_torch}
    assert _names(r'target "on-torch" \{.*?step = \[(.*?)\]') == on_torch
    assert _names(r'target "plain" \{.*?step = \[(.*?)\]') == {recipe.name for recipe in steps} - on_torch
    assert _names(r'group "default" \{ targets = \[(.*?)\]') == {recipe.name for recipe in steps}


def test_contexts_are_laid_out_for_somebody_elses_bake(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for folder in ("images/plain", "components/plain", "requirements"):
        (project / folder).mkdir(parents=True)
    (project / "images/plain/Dockerfile").write_text("FROM base\nCOPY components/plain /app/components/plain\n")
    (project / "images/install").write_text("#!/bin/sh\n")
    (project / "components/plain/__main__.py").write_text("print()\n")
    (project / "components/plain/requirements.txt").write_text("")
    (project / "requirements/build.txt").write_text("")
    (folder,) = assemble_contexts(project, tmp_path / "state", tmp_path / "contexts")
    assert folder == tmp_path / "contexts/plain"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"Dockerfile", "build/install", "build/requirements.txt", "components/plain/__main__.py"}


def test_what_a_bake_pushed_is_locked_by_its_digests(tmp_path: Path) -> None:
    metadata, lock = tmp_path / "metadata.json", tmp_path / "registry.json"
    lock.write_text(
        json.dumps({"intermodal/selector:dev": "there/selector@sha256:0", "other:dev": "there/other@sha256:1"})
    )
    pushed = {"containerimage.digest": "sha256:2", "buildx.build.ref": "default/default/x"}
    metadata.write_text(json.dumps({"selector": pushed, "torch": pushed, "buildx.build.warnings": [{}]}))
    assert lock_baked(metadata, "there", lock) == {"intermodal/selector:dev": "there/selector@sha256:2"}
    assert json.loads(lock.read_text())["other:dev"] == "there/other@sha256:1"
    metadata.write_text(json.dumps({"selector": {}}))
    with pytest.raises(BadInput, match="is no metadata of a bake that pushed images"):
        lock_baked(metadata, "there", lock)

"""The champion's bundle: what the converter made, with the chosen variant alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from components.kfp_io import StepError, write_json
from components.selector.candidates import Candidate


def write_champion(bundle: Path, champion: Candidate, target: Path) -> None:
    """Copy `bundle` to `target` without the other variants; the manifest, written last, names the champion. Raises StepError."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    if champion.variant not in manifest["variants"]:
        raise StepError(f"{champion.name}: the bundle has no such variant, only {', '.join(manifest['variants'])}")
    chosen = manifest["variants"][champion.variant]
    if manifest["files"].get(chosen["file"]) != champion.sha256:
        raise StepError(f"{champion.name}: the file in {bundle} is not the one that was measured")
    others = {variant["file"] for name, variant in manifest["variants"].items() if name != champion.variant}
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, digest in sorted(manifest["files"].items()):
        if name in others:
            continue
        source = bundle / name
        if Path(name).name != name or not source.is_file():
            raise StepError(f"{bundle}: its manifest names {name!r}, which is not a file in it")
        shutil.copyfile(source, target / name)
        with (target / name).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise StepError(f"{source}: its content is not what the manifest says")
        files[name] = digest
    manifest.update(champion=champion.variant, variants={champion.variant: chosen}, files=files)
    write_json(target / "manifest.json", manifest)

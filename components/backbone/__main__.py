"""Entry of the step's container: `fetch` downloads a backbone, `gather` lays downloads side by side, `materialise` makes one ready."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from components.backbone import registry
from components.backbone.folder import TOKENIZER, check_source, read_manifest, read_tokenizer, write_manifest
from components.kfp_io import StepError, artifact_list, run_step


def main(argv: Sequence[str]) -> None:
    """Parse `argv` and run one of the commands. Raises StepError."""
    parser = argparse.ArgumentParser(prog="components.backbone", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="download a backbone from the Hub")
    fetch.add_argument("--name", required=True, help="owner/name or owner/name@revision")
    fetch.add_argument("--endpoint", default="https://huggingface.co", help="address of the Hub or of a mirror")
    fetch.add_argument("--model", type=Path, required=True, help="output: the backbone folder")
    gather = commands.add_parser("gather", help="lay out what was fetched as one folder of backbone folders")
    gather.add_argument("--executor-input", required=True, help="ExecutorInput with the list 'fetched'")
    gather.add_argument("--model", type=Path, required=True, help="output: the folder of backbone folders")
    materialise = commands.add_parser("materialise", help="lay out the backbone folder that training starts from")
    materialise.add_argument("--name", required=True)
    materialise.add_argument("--seed", type=int, default=13, help="draws the weights of a random backbone")
    materialise.add_argument("--fetched", type=Path, help="folder of fetched backbone folders, for Hub names")
    materialise.add_argument("--local", type=Path, help="the user's own backbone folder, for the name 'local'")
    materialise.add_argument("--model", type=Path, required=True, help="output: the backbone folder")
    arguments = parser.parse_args(argv)
    arguments.model.mkdir(parents=True, exist_ok=True)
    if arguments.command == "fetch":
        # huggingface_hub reads them when it is imported; its progress bars make a mess of a log.
        os.environ |= {"HF_ENDPOINT": arguments.endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        from components.backbone.hub import fetch as fetch_from_hub

        name, revision = registry.split_revision(arguments.name)
        facts = fetch_from_hub(name, revision or "main", arguments.model)
        write_manifest(arguments.model, facts)
        print(f"fetched {name} at {facts['revision']}")
        return
    if arguments.command == "gather":
        for number, artifact in enumerate(artifact_list(arguments.executor_input, "fetched")):
            shutil.copytree(artifact.path, arguments.model / f"{number:03d}")
        return
    fetched = sorted(arguments.fetched.iterdir()) if arguments.fetched else []
    _materialise(arguments.name, arguments.seed, fetched, arguments.local, arguments.model)
    print(f"backbone {arguments.name} is ready")


def _materialise(name: str, seed: int, fetched: Sequence[Path], local: Path | None, target: Path) -> None:
    if name == registry.LOCAL:
        if local is None:
            raise StepError(
                "backbone 'local' needs a folder, and none was given", hint="pass the pipeline's local backbone"
            )
        facts = {"name": name, "revision": "", "source": "local", "license": None}
        _copy(local, target)
    elif registry.is_builtin(name):
        from components.backbone.builtin import write_builtin

        facts = write_builtin(name, target, seed)
    elif registry.looks_like_hub_name(name):
        source = _find(name, fetched)
        facts = {key: value for key, value in read_manifest(source).items() if key not in ("files", "schema_version")}
        _copy(source, target)
    else:
        raise StepError(f"unknown backbone {name!r}", hint=registry.hint_for(name))
    write_manifest(target, facts)


def _find(name: str, fetched: Sequence[Path]) -> Path:
    """Return the fetched folder whose own manifest says `name`."""
    names: list[str] = []
    for folder in fetched:
        names.append(str(read_manifest(folder)["name"]))
        if names[-1] == name:
            return folder
    raise StepError(f"backbone {name!r} was not fetched", hint=f"fetched: {', '.join(names) or 'nothing'}")


def _copy(source: Path, target: Path) -> None:
    """Copy the checked files of `source`; a folder's other files, pickles among them, stay behind."""
    for name in check_source(source):
        shutil.copyfile(source / name, target / name)
    (target / TOKENIZER).write_text(read_tokenizer(source), encoding="utf-8")


if __name__ == "__main__":
    run_step(main)

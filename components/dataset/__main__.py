"""Step dataset: `python -m components.dataset --dataset DIR ...`."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.dataset.generator import ENTITY_TYPES, SIZES, generate
from components.dataset.profile import markdown, notes, page
from components.dataset.splits import Source, check_labels, drop_leaks, read_folder
from components.kfp_io import StepError, json_argument, run_step, write_json
from components.ner.formats import SCHEMA_VERSION, SPLITS, Document, write_documents


def main(argv: Sequence[str]) -> None:
    """Make the canonical dataset. Raises StepError for anything wrong with the user's data."""
    parser = argparse.ArgumentParser(prog="dataset", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the user's documents; without it they are generated")
    parser.add_argument("--size", default="small", help="size of generated data: " + ", ".join(SIZES))
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument(
        "--entity-types", default="[]", help="JSON list: the label schema; empty means what training data has"
    )
    parser.add_argument("--validation-fraction", type=float, default=0.1)
    parser.add_argument("--test-fraction", type=float, default=0.1)
    parser.add_argument("--dataset", type=Path, required=True, help="folder to write")
    parser.add_argument("--profile", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--profile-html", type=Path, required=True, help="HTML file to write")
    args = parser.parse_args(argv)
    schema = json_argument(args.entity_types, "--entity-types")
    if not isinstance(schema, list) or not all(isinstance(label, str) and label for label in schema):
        raise StepError(f"--entity-types {args.entity_types}: expected a list of names")
    if args.data is not None:
        source = read_folder(args.data, args.validation_fraction, args.test_fraction, args.seed)
        origin = "the given folder"
    else:
        source = _generated(args.size, args.seed)
        origin = f"the generator (size {args.size}, seed {args.seed})"
    source = drop_leaks(source)
    manifest = write_dataset(args.dataset, source, check_labels(source, schema), origin)
    for note in notes(manifest):
        print(note)
    for path, content in ((args.profile, markdown(manifest)), (args.profile_html, page(manifest))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    counts = ", ".join(f"{manifest['splits'][split]['documents']} {split}" for split in SPLITS)
    print(f"{counts}; {len(manifest['entity_types'])} entity types; content {manifest['content_sha256'][:16]}")


def _generated(size: str, seed: int) -> Source:
    if size not in SIZES:
        raise StepError(f"size {size!r} is not known", hint=f"sizes are {', '.join(SIZES)}")
    return Source(generate(size, seed), dict.fromkeys(SPLITS, "generated"), frozenset(ENTITY_TYPES), [])


def write_dataset(folder: Path, source: Source, entity_types: Sequence[str], origin: str) -> dict[str, Any]:
    """Write the splits, then the manifest (last: a folder without one is no dataset), and return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split in SPLITS:
        documents = source.splits[split]
        write_documents(folder / f"{split}.jsonl", documents)
        splits[split] = {"file": f"{split}.jsonl", "origin": source.files[split], **_counts(documents)}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "content_sha256": _content(folder, entity_types),
        "entity_types": list(entity_types),
        "splits": splits,
        "source": origin,
        "ignored_files": source.ignored,
        "dropped_duplicates": source.duplicates,
        "resolved_overlaps": source.overlaps,
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def _counts(documents: Sequence[Document]) -> dict[str, Any]:
    lengths = sorted(len(document.text) for document in documents)
    labels = Counter(span.label for document in documents for span in document.spans)
    last = len(lengths) - 1
    return {
        "documents": len(documents),
        "characters": sum(lengths),
        "entities": sum(labels.values()),
        "per_label": dict(sorted(labels.items())),
        "document_lengths": {
            "min": lengths[0],
            "median": lengths[last // 2],
            "p95": lengths[round(last * 0.95)],
            "max": lengths[last],
        },
    }


def _content(folder: Path, entity_types: Sequence[str]) -> str:
    """Return the hash of the label set and of every split's bytes."""
    digest = hashlib.sha256(json.dumps(list(entity_types)).encode())
    for split in SPLITS:
        digest.update(hashlib.sha256((folder / f"{split}.jsonl").read_bytes()).digest())
    return digest.hexdigest()


if __name__ == "__main__":
    run_step(main)

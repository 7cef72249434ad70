"""`python -m tests.corpus CORPUS`: run the corpus and print the table. Exit 0 if nothing is wrong."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.corpus.check import Row, check
from tests.corpus.facts import Fact, fact

Check = Callable[[Path, str, Fact, Path], Row]
_FOLDER = Path("test_data/sdk_compiled_pipelines/valid")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("corpus", type=Path, help="a checkout of kubeflow/pipelines, or a folder of compiled pipelines")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="only pipelines whose path holds TEXT"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(".intermodal/corpus"), help="where runs and downloads are kept"
    )
    parser.add_argument(
        "--backend",
        choices=("docker", "azureml"),
        default="docker",
        help="azureml: run each on Docker and, compiled, on the emulator, and compare",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    args = parser.parse_args()
    corpus = args.corpus / _FOLDER if (args.corpus / _FOLDER).is_dir() else args.corpus
    rows = []
    for row in run(corpus, args.only, args.work.absolute(), _CHECKS[args.backend]()):
        rows.append(row)
        print_row(row)
    if not rows:
        print(f"{corpus}: no compiled pipelines", file=sys.stderr)
        return 2
    print_sum(rows)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.verdict == "wrong" for row in rows) else 0


def _azureml() -> Check:
    from tests.corpus.azureml import check_azureml

    return check_azureml


_CHECKS: Mapping[str, Callable[[], Check]] = {"docker": lambda: check, "azureml": _azureml}


def run(corpus: Path, only: list[str], work: Path, judge: Check = check) -> Iterator[Row]:
    for path in sorted(corpus.rglob("*.yaml")):
        name = path.relative_to(corpus).as_posix()
        if only and not any(text in name for text in only):
            continue
        folder = work / f"trial-{time.time_ns()}"
        folder.mkdir(parents=True)
        try:
            yield judge(corpus, name, fact(name), folder)
        except Exception as error:  # noqa: BLE001 - a defect of the engine or of this is one wrong row, not the end of the table
            yield Row(name, "wrong", "", tuple(traceback.format_exception(error)[-3:]))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def print_row(row: Row) -> None:
    print(f"{row.verdict:<8} {row.state:<10} {row.path}", flush=True)
    for note in row.notes:
        print(f"{'':20}* {note}", flush=True)
    for text in row.words if row.verdict == "wrong" else row.words[:1]:
        print(f"{'':20}{'!' if row.verdict == 'wrong' else '-'} {text[:500]}", flush=True)


def print_sum(rows: list[Row]) -> None:
    verdicts = Counter(row.verdict for row in rows)
    right = [row for row in rows if row.verdict == "right"]
    relaxed = sum(1 for row in right if any(note.startswith("relaxed") for note in row.notes))
    standins = sum(1 for row in right if any(not note.startswith("relaxed") for note in row.notes))
    failing = sum(1 for row in right if row.state == "FAILED")
    print(
        f"\n{len(rows)} pipelines: {verdicts['right']} right ({standins} with a stand-in, {relaxed} in a relaxed container, "
        f"{failing} that fail as they are meant to), {verdicts['refused']} refused by name, {verdicts['wrong']} wrong"
    )
    print("Right: resolved inputs, outputs, states and skips of every task agree with the oracle of tests/oracle.")
    print(
        "Images of other people's registries are stand-ins made of intermodal/base:dev; configuration: tests/corpus/facts.py."
    )


if __name__ == "__main__":
    sys.exit(main())

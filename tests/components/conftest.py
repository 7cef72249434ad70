"""Steps in their real images: run one as the engine would, on folders of the test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound
from docker.models.containers import Container

from components.images import image

STEP_UID = 10001
"""The uid of a step when whoever runs the tests is root; else it is the caller's, as in the container contract."""


@dataclass(frozen=True)
class Completed:
    """How a step ended: its exit code and what it printed."""

    code: int
    stdout: str
    stderr: str

    def ok(self) -> Completed:
        """Return self. Fails the test, showing what the step printed, unless it exited 0."""
        assert self.code == 0, f"exit {self.code}\n{self.stdout}\n{self.stderr}"
        return self


@dataclass(frozen=True)
class StepEngine:
    """Starts containers under the container contract: read-only root, tmpfs on /tmp, no network, no capabilities."""

    client: docker.DockerClient

    def start(
        self,
        step: str,
        argv: Sequence[str],
        mounts: Mapping[Path, str],
        *,
        writable: Sequence[str] = ("/out", "/state"),
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        network: str = "none",
    ) -> Container:
        """Start `python -m components.<step> *argv` (or `command`, then argv) and return the running container.

        `mounts` maps host folders to container paths, read-only but for the paths in `writable`.
        """
        root = os.geteuid() == 0
        uid, gid = (STEP_UID, STEP_UID) if root else (os.geteuid(), os.getegid())
        volumes = {}
        for source, target in mounts.items():
            if target in writable and root:
                os.chown(source, uid, gid)
            volumes[str(source)] = {"bind": target, "mode": "rw" if target in writable else "ro"}
        return self.client.containers.run(
            image(step),
            [*(command or ["python", "-m", f"components.{step}"]), *argv],
            detach=True,
            init=True,
            read_only=True,
            network_mode=network,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": "rw,exec,mode=1777"},
            user=f"{uid}:{gid}",
            volumes=volumes,
            environment={
                "HOME": "/tmp/home",
                "USER": "step",
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                **(env or {}),
            },
        )

    def finish(self, container: Container, timeout: float) -> Completed:
        """Wait for `container`, remove it, and return how it ended."""
        try:
            code = container.wait(timeout=timeout)["StatusCode"]
            stdout = container.logs(stdout=True, stderr=False).decode()
            stderr = container.logs(stdout=False, stderr=True).decode()
            return Completed(code, stdout, stderr)
        finally:
            with suppress(NotFound):
                container.remove(force=True)


@pytest.fixture(scope="session")
def step_engine() -> Iterator[StepEngine]:
    """The engine that DOCKER_HOST or the default socket leads to."""
    client = docker.from_env()
    yield StepEngine(client)
    client.close()


RunStep = Callable[..., Completed]


@pytest.fixture(scope="session")
def run_step(step_engine: StepEngine) -> RunStep:
    """`run_step(step, argv, {host folder: container path})`: run a step to its end in its own image."""

    def run(
        step: str, argv: Sequence[str], mounts: Mapping[Path, str], *, timeout: float = 300, **options: Any
    ) -> Completed:
        return step_engine.finish(step_engine.start(step, argv, mounts, **options), timeout)

    return run


@pytest.fixture(scope="session")
def run_script(run_step: RunStep) -> RunStep:
    """`run_script(step, script, argv, mounts)`: run a Python file of the tests inside a step's image."""

    def run(step: str, script: Path, argv: Sequence[str], mounts: Mapping[Path, str], **options: Any) -> Completed:
        command = ["python", f"/script/{script.name}"]
        return run_step(step, argv, {**mounts, script.parent: "/script"}, command=command, **options)

    return run


@pytest.fixture(scope="session")
def tiny_backbone(run_step: RunStep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backbone folder of `tiny`."""
    out = tmp_path_factory.mktemp("tiny")
    run_step("backbone", ["materialise", "--name", "tiny", "--model", "/out/model"], {out: "/out"}).ok()
    return out / "model"


_PEOPLE = ("Ada Byron", "Alan Mathison", "Grace Murray", "Edsger Wybe", "Barbara Jane", "Donald Ervin", "Frances Allen")
_FIRMS = ("Orbit Labs", "Kettle GmbH", "Northwind", "Blue Heron Ltd", "Acme", "Sable Systems")
_SKILLS = ("Python", "Rust", "SQL", "Kubernetes", "Terraform")


def make_document(number: int, lines: int) -> dict[str, Any]:
    """Return one small synthetic document with PERSON, COMPANY and SKILL spans, of `lines` lines."""
    text, spans = "", []
    for line in range(lines):
        at = number * 7 + line * 3
        for piece, label in (
            ("Name: ", None),
            (_PEOPLE[at % len(_PEOPLE)], "PERSON"),
            (" worked at ", None),
            (_FIRMS[(at + line) % len(_FIRMS)], "COMPANY"),
            (" with ", None),
            (_SKILLS[(at + 2 * line) % len(_SKILLS)], "SKILL"),
            (".\n", None),
        ):
            if label:
                spans.append([len(text), len(text) + len(piece), label])
            text += piece
    return {"id": f"d{number}", "text": text, "spans": spans}


def write_dataset(folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Write a dataset folder with the given documents, in the format of the dataset step."""
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        documents = splits.get(name, ())
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
        lengths = sorted(len(document["text"]) for document in documents) or [0]
        facts[name] = {
            "file": f"{name}.jsonl",
            "documents": len(documents),
            "characters": sum(lengths),
            "entities": sum(len(document["spans"]) for document in documents),
            "per_label": {},
            "document_lengths": {"min": lengths[0], "median": lengths[0], "p95": lengths[-1], "max": lengths[-1]},
        }
    manifest = {
        "schema_version": 1,
        "content_sha256": "0" * 64,
        "entity_types": ["COMPANY", "PERSON", "SKILL"],
        "splits": facts,
        "source": "test",
        "ignored_files": [],
        "dropped_duplicates": 0,
        "resolved_overlaps": 0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def few_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of a dozen documents; some are longer than a window of 64 tokens."""
    return write_dataset(
        tmp_path_factory.mktemp("documents") / "dataset",
        {
            "train": [make_document(number, 1 + number % 5) for number in range(12)],
            "validation": [make_document(number, 2 + number % 4) for number in range(12, 16)],
            "test": [make_document(16, 2)],
        },
    )

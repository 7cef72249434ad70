"""One pipeline of the corpus, twice: what the engine made of it, the job compiled for AzureML must make on the emulator."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.compile import argument_artifact, compile_pipeline
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.report import GAPS
from intermodal.backends.azureml.settings import AzureMLSettings, InstanceType
from intermodal.backends.docker import DockerBackend
from intermodal.engine.artifacts import Inputs
from intermodal.engine.store import Store
from intermodal.errors import BadInput, IntermodalError, Unsupported
from intermodal.spec.load import build_pipeline
from tests.backends.azureml.conftest import differences
from tests.backends.azureml.emulator.proof import on
from tests.corpus.check import Row, Trial, notes_of, read_documents, refusal
from tests.corpus.engine import WatchedBackend
from tests.corpus.facts import Fact
from tests.oracle.agreement import found
from tests.oracle.conftest import Agreed

_GPU = {"accelerator": "nvidia.com/gpu", "accelerators": 8}


class EmulatorsBackend(WatchedBackend):
    """Stand-ins that can install packages as public images can; attempts are not kept."""

    def __init__(self, fact: Fact, folder: Path) -> None:
        super().__init__(fact, folder)
        self._standins = {image: "pip" if name == "python" else name for image, name in self._standins.items()}

    wait = DockerBackend.wait


def check_azureml(corpus: Path, path: str, fact: Fact, folder: Path) -> Row:
    """Run the pipeline at `path` of the corpus on both, in `folder`, and compare."""
    documents = read_documents(corpus / path, fact.runtime)
    notes = notes_of(fact)
    try:
        pipeline = build_pipeline(*documents)
        trial = Trial(pipeline, documents[0], fact, folder)
        trial.run()
    except IntermodalError as error:
        return refusal(path, fact, "refused", (error.message,), notes)
    if fact.refused:
        return refusal(path, fact, trial.state, trial.failures, notes)
    given = trial.arguments
    artifacts = {
        name: (argument_artifact(name, str(value), pipeline),)
        for name, value in given.items()
        if name in pipeline.root.input_artifacts
    }
    parameters = {name: value for name, value in given.items() if name not in artifacts and value is not None}
    try:
        compiled = compile_pipeline(pipeline, Inputs(parameters, artifacts), _settings(), accept=GAPS)
    except (Unsupported, BadInput) as error:
        return Row(path, "refused", "", (error.message,), notes)
    own = folder / "emulated"  # what steps share on Docker is not what they share there
    own.mkdir()
    backend = EmulatorsBackend(fact, own)
    ran = on(backend, Options(cores=os.cpu_count() or 1))(compiled, folder / "azureml")
    seen = Agreed(found(trial.graph, Store(trial.store)), {}, trial.graph)
    words = [
        line for node, leaf in compiled.report.nodes.items() if leaf for line in differences(seen, ran, node, leaf)
    ]
    failed = "Failed" in ran.states.values()
    if failed is not fact.fails:
        words.append(f"the job has {'failed' if failed else 'completed'}, which it must not: {ran.ends or ran.states}")
    if fact.azureml and failed:
        return Row(path, "refused", "FAILED", (fact.azureml,), notes)
    differs = fact.differs or ("it tosses coins" if re.search(r"\brandom\b", pipeline.ir) else "")
    if differs and not fact.fails and not failed:
        notes, words = (*notes, f"not compared task by task: {differs}"), []
    return Row(
        path, "wrong" if words else "right", "FAILED" if failed else "SUCCEEDED", tuple(words), notes, len(ran.states)
    )


def _settings() -> AzureMLSettings:
    machine: dict[str, Any] = {"cpus": 256, "memory": "1024Gi", "instance_type": "Standard_Large"}
    return AzureMLSettings(fan_out=8, instance_types=[InstanceType(**machine), InstanceType(**machine, **_GPU)])

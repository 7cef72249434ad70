"""The compiled factory: its defaults, its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from intermodal.sources import compile_file
from intermodal.spec.load import load_pipeline
from intermodal.spec.types import Container, Dag, Pipeline
from pipelines.experiment import load_experiment, to_arguments

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    target = tmp_path_factory.mktemp("compiled") / "ner.yaml"
    compile_file(ROOT / "pipelines/ner.py", target)
    return load_pipeline(target)


def test_the_defaults_of_the_compiled_pipeline_are_those_of_the_default_experiment(pipeline: Pipeline):
    declared = {name: parameter.default for name, parameter in pipeline.root.input_parameters.items()}
    expected = to_arguments(load_experiment({}))
    assert declared == expected | {
        "cpus": 2,
        "worker_cpus": 2,
        "hub_endpoint": "https://huggingface.co",
    }  # never the compiling machine's
    assert set(pipeline.root.input_artifacts) == {"data", "local_backbone"}
    assert all(artifact.optional for artifact in pipeline.root.input_artifacts.values())


def test_every_step_has_its_image_its_lock_and_its_documents(pipeline: Pipeline):
    containers = {
        name: component.implementation
        for name, component in pipeline.components.items()
        if isinstance(component.implementation, Container)
    }
    for container in containers.values():
        step = container.image.removeprefix("intermodal/").removesuffix(":dev")
        dockerfile = (ROOT / "images" / step / "Dockerfile").read_text()
        assert f'io.intermodal.component="components/{step}"' in dockerfile
        for name in ("requirements.in", "requirements.txt", "README.md", "component.py"):
            assert (ROOT / "components" / step / name).is_file()
    assert len(containers) == 15  # KFP gives the refit its own backbone, trainer and converter; and keep


def test_the_benchmark_runs_after_all_candidates_and_the_study_outlives_the_task(pipeline: Pipeline):
    root = pipeline.root.implementation
    assert isinstance(root, Dag)
    loops = {name for name, task in root.tasks.items() if task.iterator is not None}
    refits = {name for name in loops if "selector" in root.tasks[name].dependencies}
    assert (len(loops), len(refits)) == (3, 1), (
        "documents are learned from only once nothing is chosen by them any more"
    )
    assert loops & set(root.tasks["benchmarker"].dependencies) & set(root.tasks["baseline"].dependencies)
    assert "baseline" in root.tasks["benchmarker"].dependencies, "the two would disturb each other"
    for name in ("comp-hpo", "comp-hpo-worker"):
        search = pipeline.components[name].implementation
        assert isinstance(search, Container)
        assert [volume.path for volume in search.volumes] == ["/state"]


def test_no_step_can_import_the_engine_or_the_sdk():
    for source in (ROOT / "components").glob("*/*.py"):
        if source.name == "component.py":
            continue
        imported = [line for line in source.read_text().splitlines() if line.strip().startswith(("import ", "from "))]
        assert not [
            line for line in imported if "kfp import" in line or " intermodal" in line or "import kfp" in line
        ], source

"""Loading IR: broken documents and unsupported constructs are named; values are what they say."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from intermodal.errors import BadInput, IntermodalError, Unsupported
from intermodal.spec.load import build_pipeline, load_pipeline
from intermodal.spec.types import Constant, Container, Dag, FromTask

DOCUMENT: dict[str, Any] = {
    "pipelineInfo": {"name": "p"},
    "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "i", "command": ["a"], "args": ["{{$}}"]}}}},
    "components": {
        "comp-a": {
            "executorLabel": "exec-a",
            "inputDefinitions": {"parameters": {"x": {"parameterType": "NUMBER_INTEGER"}}},
            "outputDefinitions": {"parameters": {"o": {"parameterType": "NUMBER_INTEGER"}}},
        }
    },
    "root": {
        "dag": {
            "tasks": {
                "first": {
                    "componentRef": {"name": "comp-a"},
                    "inputs": {"parameters": {"x": {"runtimeValue": {"constant": 5.0}}}},
                },
                "second": {
                    "componentRef": {"name": "comp-a"},
                    "inputs": {
                        "parameters": {
                            "x": {"taskOutputParameter": {"producerTask": "first", "outputParameterKey": "o"}}
                        }
                    },
                },
            }
        }
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    target = document
    *parents, last = path.split("/")
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value
    return document


def load(tmp_path: Path, document: dict[str, Any], platform: dict[str, Any] | None = None) -> Any:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump_all([document, platform] if platform else [document]))
    return load_pipeline(path)


def test_whole_numbers_are_integers_and_data_implies_dependencies(tmp_path: Path):
    pipeline = load(tmp_path, DOCUMENT)
    dag = pipeline.root.implementation
    assert isinstance(dag, Dag)
    constant = dag.tasks["first"].parameters["x"]
    assert isinstance(constant, Constant) and constant.value == 5 and isinstance(constant.value, int)
    assert dag.tasks["second"].parameters["x"] == FromTask("first", "o")
    assert dag.tasks["second"].dependencies == ("first",)


def test_the_digest_is_of_the_meaning_not_of_the_file(tmp_path: Path):
    (tmp_path / "other").mkdir()
    reordered = dict(reversed(list(DOCUMENT.items())))
    assert load(tmp_path, DOCUMENT).digest == load(tmp_path / "other", reordered).digest
    assert load(tmp_path, changed("pipelineInfo/name", "q")).digest != load(tmp_path / "other", DOCUMENT).digest


TASK = "root/dag/tasks/second/"
WRONG = [
    ("components", {}, BadInput, "comp-a"),
    ("deploymentSpec/executors", {}, BadInput, "exec-a"),
    ("deploymentSpec/executors/exec-a", {"customJob": {}}, Unsupported, "customJob"),
    (TASK + "componentRef/name", "comp-b", BadInput, "comp-b"),
    (TASK + "dependentTasks", ["third"], BadInput, "third"),
    (TASK + "dependentTasks", "first", BadInput, "dependentTasks"),
    (TASK + "inputs/parameters/x/taskOutputParameter/outputParameterKey", "q", BadInput, "no output 'q'"),
    (TASK + "inputs/parameters/x", {"componentInputParameter": "y"}, BadInput, "'y'"),
    (TASK + "inputs/parameters/x", {"magic": 1}, Unsupported, "magic"),
    (TASK + "triggerPolicy", {"strategy": "SOMETIMES"}, Unsupported, "SOMETIMES"),
    (TASK + "retryPolicy", {"backoffDuration": "soon"}, BadInput, "soon"),
    (TASK + "parameterIterator", {"itemInput": "x", "items": {"inputParameter": "items"}}, BadInput, "items"),
    (TASK + "parameterIterator", {"itemInput": "x", "items": {"raw": "{}"}}, BadInput, "list"),
    ("root/dag/tasks/first/dependentTasks", ["second"], BadInput, "wait for each other"),
    ("components/comp-a/inputDefinitions/parameters/x/parameterType", "COLOUR", BadInput, "COLOUR"),
    ("components/comp-a", {"dag": {"tasks": {"again": {"componentRef": {"name": "comp-a"}}}}}, IntermodalError, ""),
]


@pytest.mark.parametrize(("path", "value", "kind", "word"), WRONG, ids=[f"{row[0]}={row[1]}"[-50:] for row in WRONG])
def test_what_is_wrong_is_named(tmp_path: Path, path: str, value: Any, kind: type[IntermodalError], word: str):
    with pytest.raises(kind) as error:
        load(tmp_path, changed(path, value))
    assert word in error.value.message
    assert error.value.message.startswith("p.yaml: ")


def test_broken_files_say_where(tmp_path: Path):
    path = tmp_path / "p.yaml"
    for content, word in (("a: [1\nb: 2\n", "line"), ("just text", "no pipeline"), ("", "no pipeline")):
        path.write_text(content)
        with pytest.raises(BadInput, match=word):
            load_pipeline(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadInput, match="UTF-8"):
        load_pipeline(path)
    with pytest.raises(BadInput, match="cannot be read"):
        load_pipeline(tmp_path / "none.yaml")


def kubernetes(**settings: Any) -> dict[str, Any]:
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-a": settings}}}}}


def test_a_claim_becomes_a_volume_and_placement_is_listed_as_not_applied(tmp_path: Path):
    mount = [{"constant": "old", "pvcNameParameter": {"runtimeValue": {"constant": "claim"}}, "mountPath": "/state"}]
    pipeline = load(tmp_path, DOCUMENT, kubernetes(pvcMount=mount, nodeSelector={"labels": {"gpu": "yes"}}))
    container = pipeline.components["comp-a"].implementation
    assert isinstance(container, Container)
    assert [(volume.path, volume.name) for volume in container.volumes] == [("/state", Constant("claim"))]
    assert len(pipeline.not_applied) == 1 and "nodeSelector" in pipeline.not_applied[0]


def test_other_platform_settings_are_refused_by_name():
    with pytest.raises(Unsupported, match="genericEphemeralVolume"):
        build_pipeline(DOCUMENT, kubernetes(genericEphemeralVolume=[{"volumeName": "s"}]))


def test_a_component_that_asks_how_another_task_ended_is_an_exit_task_or_refused(tmp_path: Path):
    document = changed("components/comp-a/inputDefinitions/parameters/status", {"parameterType": "TASK_FINAL_STATUS"})
    with pytest.raises(Unsupported, match="'status' is the final status of another task"):
        load(tmp_path, document)
    for name, other in (("first", "second"), ("second", "first")):
        given = {"taskFinalStatus": {"producerTask": other}} if name == "second" else {"runtimeValue": {"constant": {}}}
        document["root"]["dag"]["tasks"][name]["inputs"]["parameters"]["status"] = given
    assert load(tmp_path, document).root.implementation.tasks["second"].dependencies == ("first",)
    document["root"]["inputDefinitions"] = {"parameters": {"end": {"parameterType": "TASK_FINAL_STATUS"}}}
    with pytest.raises(Unsupported, match="pipeline p: input 'end' is the final status of another task"):
        load(tmp_path, document)


def test_the_pipelines_own_deadline_and_workspace_are_read_and_the_rest_listed(tmp_path: Path):
    config = {"activeDeadlineSeconds": 90, "workspace": {"size": "1Gi"}, "resourceTtlOnCompletion": 5}
    pipeline = load(tmp_path, DOCUMENT, {"platforms": {"kubernetes": {"pipelineConfig": config}}})
    assert (pipeline.deadline, pipeline.workspace) == (90, True)
    assert pipeline.not_applied == ("pipeline: resourceTtlOnCompletion is for a cluster; not applied",)


def test_an_importer_into_a_workspace_needs_one(tmp_path: Path):
    importer = {"importer": {"artifactUri": {"constant": "/x"}, "typeSchema": {}, "downloadToWorkspace": True}}
    document = changed("deploymentSpec/executors/exec-i", importer)
    output = {"artifacts": {"artifact": {"artifactType": {"schemaTitle": "system.Dataset"}}}}
    document["components"]["comp-i"] = {"executorLabel": "exec-i", "outputDefinitions": output}
    document["root"]["dag"]["tasks"]["import"] = {"componentRef": {"name": "comp-i"}}
    with pytest.raises(BadInput, match="workspace"):
        load(tmp_path, document)
    platform = {"platforms": {"kubernetes": {"pipelineConfig": {"workspace": {"size": "1Gi"}}}}}
    assert load(tmp_path, document, platform).components["comp-i"].implementation.to_workspace


def test_shared_memory_in_both_its_forms(tmp_path: Path):
    empty = [
        {"volumeName": "m", "mountPath": "/dev/shm", "sizeLimit": "2Gi"},
        {"volumeName": "s", "mountPath": "/scratch"},
    ]
    for settings, scratch in (
        ({"enabledSharedMemory": {"volumeName": "m", "size": "2Gi"}}, ()),
        ({"emptyDirMounts": empty}, ("/scratch",)),
    ):
        pipeline = load(tmp_path, DOCUMENT, kubernetes(**settings))
        [container] = [
            item.implementation for item in pipeline.components.values() if isinstance(item.implementation, Container)
        ]
        assert container.kubernetes.shared_memory == "2Gi"
        assert container.kubernetes.empty_dirs == scratch

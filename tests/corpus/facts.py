"""What pipelines of the corpus need that they do not bring: arguments, stand-ins, a container held less tightly; and how they must end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NEWEST = "2.17.0"
"""The KFP runtime that stands in where the pinned one lacks what the pipeline uses: upstream tests with a runtime of its own branch."""
SHARED = "/shared"
"""Where a folder of the run lies in containers of pipelines that pass paths from step to step."""


@dataclass(frozen=True)
class Fact:
    """About one pipeline. All of it is shown in the table, but for arguments."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    fails: bool = False
    """Whether it is meant to fail, as the oracle must say too."""
    refused: str = ""
    """A word of the construct that cannot run on one machine; the engine must name it."""
    standin: str = ""
    """What stands in for something that this machine has not."""
    runtime: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    """Image that the pipeline names -> stand-in of `images.py`."""
    shared: bool = False
    """Relaxed container: a writable folder that all steps see at SHARED."""
    any_machine: bool = False
    """Relaxed container: resources are reserved on a machine that is large enough, but no limit reaches the container."""
    azureml: str = ""
    """Why it fails on AzureML, though nothing in it can be refused when it is compiled."""
    differs: str = ""
    """Why no two runs of it do the same, so that one on AzureML cannot be held to one on Docker."""
    outputs: Mapping[str, Any] | None = None
    """The pipeline's output parameters, worked out by hand; None where they were not."""


_GS = "gs:// objects from a folder"
_GSUTIL = "a gsutil that copies files"
_PYPI = "packages from PyPI, installed as a layer"
_CLAIM = "volumes of the cluster as folders"
_SECRET = "secrets from a folder"
_PATHS = "it tells the path of an artifact"
_NO_PROGRAM = Fact(refused="my_program")

FACTS: Mapping[str, Fact] = {
    "collected_artifacts.yaml": Fact(differs=_PATHS),
    "arguments_parameters.yaml": Fact({"param2": "second"}),
    "component_with_task_final_status_GH-12033.yaml": Fact(refused="final status"),
    "components_with_optional_artifacts.yaml": Fact(standin=_GS),
    "container_io.yaml": _NO_PROGRAM,
    "container_with_artifact_output.yaml": Fact(refused="gcr.io/my-image"),
    "container_with_concat_placeholder.yaml": _NO_PROGRAM,
    "container_with_if_placeholder.yaml": _NO_PROGRAM,
    "container_with_placeholder_in_fstring.yaml": _NO_PROGRAM,
    "containerized_python_component.yaml": Fact(
        {"message1": "a", "message2": "b"},
        standin="the image that `kfp component build` makes",
        images={"kfp-image": "component"},
        azureml="it finds its code by the image's working directory; nodes on AzureML have one of their own",
        outputs={"Output": "ab"},
    ),
    # Its third task compares a variable that nobody sets with "": it fails by its own hand, on a cluster too.
    "create_pod_metadata_complex.yaml": Fact(fails=True, standin="labels and annotations as variables"),
    "critical/add_numbers.yaml": Fact({"a": 2, "b": 3}, outputs={"Output": 5}),
    "critical/modelcar.yaml": Fact(
        standin="an image with a model in /models", images={"registry.domain.local/modelcar:test": "modelcar"}
    ),
    "critical/notebook_component_simple.yaml": Fact(standin=_PYPI),
    "critical/parameters_simple.yaml": Fact(
        standin="an image with a jq that can add", images={"jetbrainsinfra/jq": "jq"}, outputs={"Output": [2, 4, 6]}
    ),
    "critical/pipeline_with_artifact_custom_path.yaml": Fact(runtime=NEWEST),
    "critical/pipeline_with_artifact_upload_download.yaml": Fact(refused="network"),
    "critical/pipeline_with_pod_metadata.yaml": Fact(standin="labels and annotations as variables"),
    "critical/pipeline_with_secret_as_env.yaml": Fact(standin=_SECRET),
    "critical/pipeline_with_submit_request.yaml": Fact(standin=_PYPI),
    "critical/pipeline_with_volume_long_name.yaml": Fact(standin=_CLAIM),
    "env-var.yaml": Fact(
        {"env_var": "HOME"}, outputs={"Output": "/tmp"}, differs="it tells HOME, which is root's on AzureML"
    ),
    "essential/component_with_pip_index_urls.yaml": Fact(standin=_PYPI),
    "essential/component_with_pip_install.yaml": Fact(standin=_PYPI),
    "essential/component_with_pip_install_in_venv.yaml": Fact(standin=_PYPI),
    "essential/concat_message.yaml": Fact(
        {"message1": "it's ", "message2": '"both"'}, outputs={"Output": 'it\'s "both"'}
    ),
    "essential/dict_input.yaml": Fact({"struct": {"n": 1, "deep": [1.5, None]}}),
    "essential/embedded_artifact.yaml": Fact(runtime=NEWEST),
    "essential/iris_pipeline_compiled.yaml": Fact(standin=_PYPI),
    "essential/lightweight_python_functions_with_outputs.yaml": Fact(
        {"first_message": "a", "second_message": "b", "first_number": 2, "second_number": 3}
    ),
    "failing/fail_v2.yaml": Fact(fails=True),
    "failing/pipeline_with_exit_handler.yaml": Fact(fails=True),
    "failing/pipeline_with_multiple_exit_handlers.yaml": Fact(fails=True),
    "gpu-scheduling/nvidia_gpu_scheduling_check.yaml": Fact(any_machine=True),
    "identity.yaml": Fact({"value": "same"}, outputs={"Output": "same"}),
    "integration/ray_integration_compiled.yaml": Fact(refused="ray-fn"),
    "local_execution/local_execution_pipeline_with_ignore_upstream_failure.yaml": Fact(
        {"marker_path": f"{SHARED}/marker"}, fails=True, shared=True
    ),
    "local_execution/local_execution_pipeline_with_k8s_only_methods.yaml": Fact(any_machine=True),
    "local_execution/local_execution_pipeline_with_retry.yaml": Fact(
        {"counter_path": f"{SHARED}/count"}, shared=True, outputs={"Output": "attempt=2"}
    ),
    "local_execution/pipeline_with_collected_artifacts.yaml": Fact(outputs={"Output": "0,1,2"}),
    "log_streaming_compiled.yaml": Fact(),
    "long-running.yaml": Fact(standin="a sleep of a second", images={"alpine:latest": "sleepless"}),
    "parallel_and_nested/loop_consume_upstream.yaml": Fact(differs=_PATHS),
    "metrics_visualization_v2.yaml": Fact(standin=_PYPI, differs="it trains without a seed"),
    "mounted_cabundle_configmap.yaml": Fact(),
    "nested_return.yaml": Fact(outputs={"Output": [{"A_a": "1", "B_b": "2"}, {"A_a": "10", "B_b": "20"}]}),
    "notebook_component_mixed.yaml": Fact(standin=_PYPI),
    "parallel_and_nested/nested_parallel_for_secret.yaml": Fact(standin=_SECRET),
    "parallel_and_nested/parallel_for_mount_pvc.yaml": Fact(standin=_CLAIM),
    "parallel_and_nested/parallel_for_secret.yaml": Fact(standin=_SECRET),
    "pipeline_as_exit_task.yaml": Fact(fails=True),
    "pipeline_with_condition_dynamic_task_output_custom_training_job.yaml": Fact(
        refused="google-cloud-pipeline-components"
    ),
    "pipeline_with_dynamic_importer_metadata.yaml": Fact(standin=_GS),
    "pipeline_with_dynamic_task_output_custom_training_job.yaml": Fact(refused="google-cloud-pipeline-components"),
    "pipeline_with_google_artifact_type.yaml": Fact(refused="aiplatform"),
    "pipeline_with_importer.yaml": Fact(standin=_GS),
    "pipeline_with_importer_and_gcpc_types.yaml": Fact(refused="dummy"),
    "pipeline_with_parallelfor_parallelism.yaml": Fact({"loop_parameter": ["a", "b", "c"]}),
    "pipeline_with_parallelfor_pipeline_param.yaml": Fact({"loop_parameter": ["a", "b"], "prefix": "pre"}),
    "pipeline_with_secret_as_volume.yaml": Fact(standin=_SECRET),
    "pipeline_with_string_machine_fields_pipeline_input.yaml": Fact(any_machine=True),
    "pipeline_with_string_machine_fields_task_output.yaml": Fact(any_machine=True),
    "pipeline_with_task_final_status.yaml": Fact(fails=True),
    "pipeline_with_task_using_ignore_upstream_failure.yaml": Fact(fails=True),
    "pipeline_with_various_io_types.yaml": Fact(refused="gcr.io/image"),
    "pipeline_with_volume.yaml": Fact(standin=_CLAIM),
    "pipeline_with_volume_no_cache.yaml": Fact(standin=_CLAIM),
    "pvc_mount.yaml": Fact({"pvc_name": "claim"}, standin=_CLAIM),
    "pythonic_artifact_with_single_return.yaml": Fact(standin=f"{_GS}; {_PYPI}"),
    "sequential_v1.yaml": Fact({"param1": "one", "param2": "two"}),
    "sequential_v2.yaml": Fact(
        {"url": "gs://ml-pipeline-playground/shakespeare1.txt"},
        standin=_GSUTIL,
        images={"google/cloud-sdk": "gsutil", "library/bash": "python"},
    ),
    "take_nap_compiled.yaml": Fact({"naptime_secs": 1}),
    "take_nap_pipeline_root_compiled.yaml": Fact({"naptime_secs": 1}),
    "two_step_pipeline.yaml": Fact(standin=_GSUTIL, images={"google/cloud-sdk:slim": "gsutil"}),
    "upload_download_compiled.yaml": Fact(
        {
            "bucket_name": "corpus",
            # Of an object store that is not here: minio.invalid, port 9000, names and words of no meaning.
            "mlpipeline_minio_artifact_secret": '{"host": "bWluaW8uaW52YWxpZA==", "port": "OTAwMA==", "accesskey": "YQ==", '
            '"secretkey": "YQ==", "secure": "ZmFsc2U="}',
        },
        refused="network",
    ),
    "xgboost_sample_pipeline.yaml": Fact(refused="byrnedo/alpine-curl"),
}

PUBLIC_IMAGES: Mapping[str, str] = {
    "python:3.11": "python",
    "python:alpine3.9": "python",
    "public.ecr.aws/docker/library/python:3.12": "python",
    "registry.access.redhat.com/ubi9/python-311:latest": "python",
    "alpine": "python",
    "alpine:latest": "python",
    "ghcr.io/containerd/busybox": "python",
}
"""Images of other people's registries, which no machine without them can pull: all of them are to have is a shell and Python."""

SECRETS: Mapping[str, Mapping[str, str]] = {
    "test-secret-1": {"username": "user1"},
    "test-secret-2": {"password": "psw1"},
    "test-secret-3": {"password": "psw2"},
}

BUCKET: Mapping[str, str] = {
    "gs://ml-pipeline-playground/shakespeare1.txt": "To be, or not to be\n",
    "gs://ml-pipeline-playground/shakespeare2.txt": "All the world's a stage\n",
}
"""Objects that importers name, and what stands in for them."""


def fact(path: str) -> Fact:
    return FACTS.get(path, Fact())

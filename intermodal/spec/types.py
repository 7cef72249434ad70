"""A pipeline as typed, frozen values: what `pipeline_spec.proto` says, without protobuf and without any backend.

Names follow the proto (kubeflow/pipelines, api/v2alpha1/pipeline_spec.proto) in snake case. References between tasks are
values here; nothing is ever parsed out of a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from intermodal.spec.python_step import Prelude
from intermodal.words import Word

Value = Any
"""A JSON value: None, bool, int, float, str, list or dict. Integers stay integers at any depth."""


class ParameterType(Word):
    STRING = "STRING"
    INTEGER = "NUMBER_INTEGER"
    DOUBLE = "NUMBER_DOUBLE"
    BOOLEAN = "BOOLEAN"
    LIST = "LIST"
    STRUCT = "STRUCT"
    TASK_FINAL_STATUS = "TASK_FINAL_STATUS"
    TASK_CONFIG = "TASK_CONFIG"


@dataclass(frozen=True)
class InputParameter:
    """A declared parameter. `default` counts only if `has_default`."""

    type: ParameterType
    optional: bool = False
    has_default: bool = False
    default: Value = None
    literals: tuple[Value, ...] = ()


@dataclass(frozen=True)
class ArtifactType:
    """A KFP artifact type, e.g. `system.Model` version `0.0.1`."""

    schema_title: str
    schema_version: str = "0.0.1"


@dataclass(frozen=True)
class InputArtifact:
    type: ArtifactType
    is_list: bool = False
    optional: bool = False


@dataclass(frozen=True)
class OutputArtifact:
    type: ArtifactType
    is_list: bool = False


# Where the value of a task's input comes from.


@dataclass(frozen=True)
class Constant:
    """A value written in the pipeline. A string may hold placeholders that refer to the same task's other inputs."""

    value: Value


@dataclass(frozen=True)
class FromInput:
    """An input of the enclosing component; `selector` is a KFP parameter expression, e.g. `parseJson(string_value)["a"]`."""

    name: str
    selector: str = ""


@dataclass(frozen=True)
class FromTask:
    """An output of a sibling task."""

    task: str
    output: str
    selector: str = ""


@dataclass(frozen=True)
class FinalStatus:
    """How a sibling task ended, as PipelineTaskFinalStatus."""

    task: str


Source = Union[Constant, FromInput, FromTask, FinalStatus]


class TriggerStrategy(Word):
    ALL_SUCCEEDED = "ALL_UPSTREAM_TASKS_SUCCEEDED"
    ALL_COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass(frozen=True)
class Iterator:
    """A loop over a list of values or of artifacts.

    Exactly one of `raw` (a constant list) and `input` (the name of one of the task's own inputs) gives the items.
    `limit` is the number of iterations that may run at once; 0 means no limit.
    """

    item: str
    raw: tuple[Value, ...] | None = None
    input: str | None = None
    over_artifacts: bool = False
    limit: int = 0


@dataclass(frozen=True)
class Retry:
    """Retries after the first attempt. Delay before retry n (from 1) is `delay * factor**(n-1)` seconds."""

    count: int = 0
    delay: float = 0.0
    factor: float = 2.0
    total: float = 3600.0
    """Seconds after which no further retry starts (the proto bounds the whole period, not one delay)."""


@dataclass(frozen=True)
class Task:
    """One task of a DAG."""

    name: str
    component: str
    display_name: str
    parameters: Mapping[str, Source] = field(default_factory=dict)
    artifacts: Mapping[str, Source] = field(default_factory=dict)
    dependencies: tuple[str, ...] = ()
    """Names of sibling tasks: the declared ones and those that the inputs imply, sorted, each once."""
    condition: str = ""
    strategy: TriggerStrategy = TriggerStrategy.ALL_SUCCEEDED
    iterator: Iterator | None = None
    retry: Retry = Retry()
    cache: bool = True
    cache_key: str = ""


@dataclass(frozen=True)
class Dag:
    """A graph of tasks. An output has several sources only for OneOf: the branch that ran gives the value."""

    tasks: Mapping[str, Task]
    parameter_outputs: Mapping[str, tuple[FromTask, ...]] = field(default_factory=dict)
    artifact_outputs: Mapping[str, tuple[FromTask, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Resources:
    """Requests and limits as written; strings may hold placeholders (`500m`, `4Gi`, `{{$.inputs.parameters['x']}}`)."""

    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""
    accelerator_type: str = ""
    accelerator_count: str = ""


@dataclass(frozen=True)
class VolumeMount:
    """A claim mounted into a container (kfp-kubernetes `mount_pvc`)."""

    name: Source
    path: str
    sub_path: str = ""


@dataclass(frozen=True)
class ConfigRef:
    """A secret or a config map by name. An optional one may be absent."""

    kind: Literal["secret", "config map"]
    name: Source
    optional: bool = False


@dataclass(frozen=True)
class ConfigVolume:
    """A secret or config map as a folder with a file for each key."""

    config: ConfigRef
    path: str


@dataclass(frozen=True)
class ConfigEnv:
    """One key of a secret or config map as an environment variable."""

    config: ConfigRef
    key: str
    variable: str


@dataclass(frozen=True)
class KubernetesSettings:
    """What a platform spec asks for and one machine can give.

    `fields` maps a variable to a pod field path (`metadata.labels['a']`); `empty_dirs` are mount paths of scratch folders;
    `deadline` is in seconds, None for no limit.
    """

    config_volumes: tuple[ConfigVolume, ...] = ()
    config_env: tuple[ConfigEnv, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    empty_dirs: tuple[str, ...] = ()
    pull_policy: str = ""
    deadline: float | None = None
    shared_memory: str = ""


@dataclass(frozen=True)
class Container:
    """A container executor. Strings may hold placeholders."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    resources: Resources = Resources()
    volumes: tuple[VolumeMount, ...] = ()
    kubernetes: KubernetesSettings = KubernetesSettings()
    prelude: Prelude | None = None
    """What the command installs first, if it is that of a lightweight Python component."""


@dataclass(frozen=True)
class Importer:
    """An importer executor: makes an artifact of something that exists already."""

    uri: Source
    type: ArtifactType
    metadata: Mapping[str, Value] = field(default_factory=dict)
    reimport: bool = False
    to_workspace: bool = False
    """Whether the content is also put into the pipeline's workspace, where steps then find it."""


Implementation = Union[Dag, Container, Importer]


@dataclass(frozen=True)
class Component:
    """An interface and what implements it."""

    name: str
    implementation: Implementation
    input_parameters: Mapping[str, InputParameter] = field(default_factory=dict)
    input_artifacts: Mapping[str, InputArtifact] = field(default_factory=dict)
    output_parameters: Mapping[str, ParameterType] = field(default_factory=dict)
    output_artifacts: Mapping[str, OutputArtifact] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name as people write it: without the compiler's prefix."""
        return self.name.removeprefix("comp-")


@dataclass(frozen=True)
class Pipeline:
    """A whole pipeline. `digest` is the sha256 of the canonical JSON of its IR, platform spec included."""

    name: str
    root: Component
    components: Mapping[str, Component]
    digest: str
    ir: str = field(default="", repr=False)
    """The document it was read from as YAML (JSON, a subset of it), platform spec included."""
    sdk_version: str = ""
    workspace: bool = False
    """Whether tasks share a workspace, a folder that lives as long as the run."""
    deadline: float | None = None
    """Seconds that a run may take, None for no limit."""
    not_applied: tuple[str, ...] = ()
    """Settings of the platform spec that mean nothing on one machine (tolerations, node selectors), one line each."""

    def component(self, task: Task) -> Component:
        return self.components[task.component]

    @property
    def container_components(self) -> tuple[str, ...]:
        """Labels of the components that are containers."""
        return tuple(c.label for c in self.components.values() if isinstance(c.implementation, Container))

"""From leaves to an AzureML pipeline job: nodes, components, ports, and the binding of one to another.

A node's component depends only on its image and on how many ports of which kind it has; everything else is in one literal
input, the wiring. So nodes of one shape share one component. Ports: `m_*` metas of the leaves before it, `o_*` metas that
only order, `i_*` artifacts, `p_*` parameters of the pipeline, `w` the wiring; out: `kfp_meta`, `a_*` artifacts, `v_*` volumes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intermodal.backends.azureml.flatten import Flat, Leaf, Origin
from intermodal.backends.azureml.machines import Place, place_of
from intermodal.backends.azureml.names import distinct_ports, port_name, unique
from intermodal.backends.azureml.native_sweep import check_alone, sweep_of
from intermodal.backends.azureml.native_sweep import port as search_port
from intermodal.backends.azureml.settings import AzureMLSettings
from intermodal.backends.azureml.sources import External
from intermodal.backends.azureml.values import TYPES, encode
from intermodal.backends.azureml.wiring import Wiring, encode_wiring
from intermodal.engine.artifacts import Inputs
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.document import canonical_json
from intermodal.spec.types import Constant, Container, Pipeline, VolumeMount

META, WIRING = "kfp_meta", "w"
VERDICT = "kfp_verdict"
_HAS_PYTHON = 'command -v python3 >/dev/null || { echo "error: the image has no python3, which the launcher needs" >&2; exit 1; };'
_LONGEST_WIRING = 96 * 1024
"""Characters. The whole command is one argument of a shell, which Linux limits to 128 KiB."""


@dataclass(frozen=True)
class Shape:
    """What a component is made of: equal shapes are one component."""

    label: str
    image: str
    metas: int
    orders: int
    artifacts: tuple[str, ...]
    """Kind of each artifact port: uri_folder or uri_file."""
    parameters: tuple[str, ...]
    """AzureML type of each parameter port."""
    outputs: tuple[str, ...]
    """Names of the artifact output ports."""
    volumes: int
    cache: bool
    search: tuple[str, ...] = ()
    """Hyperparameters that a sweep sets; none for a command node."""

    @property
    def name(self) -> str:
        return "kfp_" + port_name(self.label).lower()

    def document(self) -> dict[str, Any]:
        """Return the component as `az ml component create -f` takes it, without its version."""
        inputs: dict[str, Any] = {WIRING: {"type": "string"}}
        inputs |= {f"m_{n}": {"type": "uri_folder"} for n in range(self.metas)}
        inputs |= {f"o_{n}": {"type": "uri_folder"} for n in range(self.orders)}
        inputs |= {f"i_{n}": {"type": kind} for n, kind in enumerate(self.artifacts)}
        inputs |= {f"p_{n}": {"type": kind} for n, kind in enumerate(self.parameters)}
        inputs |= {search_port(name): {"type": "number"} for name in self.search}
        outputs: dict[str, Any] = {META: {"type": "uri_folder"}}
        outputs |= {name: {"type": "uri_folder"} for name in self.outputs}
        outputs |= {f"v_{n}": {"type": "uri_folder"} for n in range(self.volumes)}
        return {
            "$schema": "https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json",
            "type": "command",
            "name": self.name,
            "display_name": self.label,
            "is_deterministic": self.cache,
            "inputs": inputs,
            "outputs": outputs,
            "code": "../launcher",
            "environment": {"image": self.image},
            "command": self._command(),
        }

    def _command(self) -> str:
        words = [_HAS_PYTHON, "python3 launch.py", "--wiring ${{inputs.w}}", "--meta ${{outputs.kfp_meta}}"]
        words += [f"--before ${{{{inputs.m_{n}}}}}" for n in range(self.metas)]
        words += [f"--artifact ${{{{inputs.i_{n}}}}}" for n in range(len(self.artifacts))]
        words += [f"--parameter ${{{{inputs.p_{n}}}}}" for n in range(len(self.parameters))]
        words += [f"--output {name}=${{{{outputs.{name}}}}}" for name in self.outputs]
        words += [f"--volume ${{{{outputs.v_{n}}}}}" for n in range(self.volumes)]
        words += [f"--try {name}=${{{{inputs.{search_port(name)}}}}}" for name in self.search]
        return " ".join(words)

    @property
    def version(self) -> str:
        """The hash of all that makes the component, so that an equal one is there already."""
        return hashlib.sha256(canonical_json(self.document()).encode()).hexdigest()[:16]

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version[:8]}.yml"


@dataclass(frozen=True)
class Node:
    """A node of the job. Bindings are `${{...}}` expressions or literals, by port."""

    name: str
    path: str
    shape: Shape
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    place: Place
    wiring: Mapping[str, Any]
    sweep: Mapping[str, Any] | None = None
    """What a sweep node says beside its trial; None for a command node."""


@dataclass(frozen=True)
class Lowered:
    """A pipeline job as typed values: `job.py` writes it as YAML and as REST bodies."""

    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    nodes: Sequence[Node]
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """File name -> component."""


class Lowering:
    """Lowers one flat pipeline. Raises BadInput and Unsupported naming the task."""

    def __init__(
        self,
        pipeline: Pipeline,
        spec: Mapping[str, Any],
        platform: Mapping[str, Any],
        flat: Flat,
        arguments: Inputs,
        external: External,
        settings: AzureMLSettings,
        images: Mapping[str, str],
        success_word: str,
    ) -> None:
        """`arguments` are the pipeline's, bound; `images` maps an image of the pipeline to the one that AzureML pulls."""
        self._pipeline = pipeline
        self._flat = flat
        self._arguments = arguments
        self._external = external
        self._settings = settings
        self._images = images
        self._wiring = Wiring(pipeline, spec, platform, flat, success_word)
        self._leaves = {path: leaf for path, leaf in flat.leaves.items() if not leaf.is_importer}
        self._names = unique([*self._leaves, VERDICT])
        self._ports = {
            path: distinct_ports([f"a_{name}" for name in leaf.component.output_artifacts], path)
            for path, leaf in self._leaves.items()
        }
        self._parameters = distinct_ports(pipeline.root.input_parameters, f"pipeline {pipeline.name}")

    def run(self) -> Lowered:
        if not self._leaves:
            raise Unsupported(f"pipeline {self._pipeline.name}: has no container task, so there is no job to run")
        nodes = [self._node(leaf) for leaf in self._leaves.values()]
        outputs: dict[str, Any] = {}
        if self._needs_verdict():
            nodes.append(self._verdict())
            outputs["kfp_out"] = {"type": "uri_folder"}
        for name, binding in self._artifact_outputs().items():
            outputs[name] = {"type": "uri_folder", "binding": binding}
        used = sorted({name for leaf in self._leaves.values() for name in leaf.parameters})
        declared = self._pipeline.root.input_parameters
        inputs = {
            self._parameters[name]: encode(self._arguments.parameters.get(name), declared[name].type.value)
            for name in used
        }
        inputs |= self._external.job_inputs()
        shapes = {node.shape.file: node.shape for node in nodes}
        return Lowered(self._pipeline.name, inputs, outputs, nodes, dict(sorted(shapes.items())))

    # Nodes

    def _node(self, leaf: Leaf) -> Node:
        container = leaf.component.implementation
        if not isinstance(container, Container):
            raise AssertionError("importers have no node")
        image = self._image(container.image, leaf)
        before = [name for name in leaf.after if name in self._leaves]
        order = [name for name in leaf.order if name in self._leaves and name not in before]
        origins = list(dict.fromkeys(origin for items in leaf.origins.values() for origin in items))
        parameters = sorted(self._reached(leaf))
        inputs: dict[str, Any] = {}
        inputs |= {f"m_{n}": self._meta(name) for n, name in enumerate(before)}
        inputs |= {f"o_{n}": self._meta(name) for n, name in enumerate(order)}
        inputs |= {f"i_{n}": self._artifact(origin) for n, origin in enumerate(origins)}
        inputs |= {f"p_{n}": f"${{{{parent.inputs.{self._parameters[name]}}}}}" for n, name in enumerate(parameters)}
        kinds = self._pipeline.root.input_parameters
        sweep = self._sweep(leaf)
        # A trial has nothing to go on with, so the volume of the step's study stays out.
        volumes = container.volumes if sweep is None else ()
        shape = Shape(
            label=re.sub(r"-\d+$", "", leaf.component.label),  # the SDK numbers the copies of one component
            image=image,
            metas=len(before),
            orders=len(order),
            artifacts=tuple(self._kind(origin) for origin in origins),
            parameters=tuple(self._port_type(name) for name in parameters),
            outputs=tuple(self._ports[leaf.path].values()),
            volumes=len(volumes),
            cache=leaf.task.cache,
            search=tuple(name.removeprefix("s_") for name in (sweep or {}).get("search_space", ())),
        )
        wiring = self._wiring.of(leaf) | {
            "before": before,
            "parameters": [[name, kinds[name].type.value] for name in parameters],
            "artifacts": [[origin.leaf, origin.output] for origin in origins],
            "outputs": {port: name.removeprefix("a_") for name, port in self._ports[leaf.path].items()},
            "imported": self._external.imported(leaf),
            "soft": leaf.path in self._flat.soft,
            "secrets": self._external.secrets(container),
            "config_maps": self._external.config_maps(container),
        }
        inputs[WIRING] = self._encoded(wiring, leaf.path)
        place = place_of(container, leaf.known, leaf.component.label, leaf.path, self._settings)
        outputs = {f"v_{n}": self._volume(volume, leaf) for n, volume in enumerate(volumes)}
        return Node(self._names[leaf.path], leaf.path, shape, inputs, outputs, place, wiring, sweep)

    def _sweep(self, leaf: Leaf) -> dict[str, Any] | None:
        """Return the sweep that a search step becomes by the settings, None for any other step. Raises Unsupported."""
        label = re.sub(r"-\d+$", "", leaf.component.label)
        settings = self._settings.sweeps.get(label)
        if settings is None:
            return None
        # A trial that is skipped, or fails softly, ends as Completed without a score: the sweep could not tell what that means.
        if leaf.path in self._flat.soft:
            raise Unsupported(
                f"{leaf.path}: is before a task that runs whatever happened, so it cannot be a native sweep",
                hint=f"leave out [tool.intermodal.azureml.sweeps.{label}]",
            )
        if self._may_be_skipped(leaf):
            raise Unsupported(
                f"{leaf.path}: may be skipped, so it cannot be a native sweep",
                hint=f"leave out [tool.intermodal.azureml.sweeps.{label}]",
            )
        check_alone(leaf.after, label, leaf.path)
        return sweep_of(settings, leaf.known.parameters, leaf.path)

    def _may_be_skipped(self, leaf: Leaf) -> bool:
        """Whether a condition or a loop of unknown length decides about a leaf, or about one that it comes after."""
        uncertain = tuple(f"{loop.path}/" for loop in self._flat.loops if loop.bound is not None)
        seen, left = {leaf.path}, [leaf]
        while left:
            one = left.pop()
            if one.path.startswith(uncertain) or any(link.task.condition for link in one.chain):
                return True
            for name in set(one.after) - seen:
                seen.add(name)
                left.append(self._flat.leaves[name])
        return False

    def _port_type(self, name: str) -> str:
        """Return the AzureML type of a parameter of the pipeline; a null is a text, whatever it could be."""
        kind = self._pipeline.root.input_parameters[name].type.value
        given = self._arguments.parameters.get(name) is not None
        return TYPES.get(kind, "string") if given else "string"

    def _reached(self, leaf: Leaf) -> set[str]:
        importers = (self._flat.leaves[name] for name in leaf.after if self._flat.leaves[name].is_importer)
        found = {name for other in (leaf, *importers) for name in other.parameters}
        return found & self._pipeline.root.input_parameters.keys()

    def _encoded(self, wiring: Mapping[str, Any], path: str) -> str:
        text = encode_wiring(wiring)
        if len(text) > _LONGEST_WIRING:
            raise Unsupported(
                f"{path}: what its launcher must know has {len(text)} characters, more than a command can hold ({_LONGEST_WIRING})",
                hint="move the step's code from the command into its image",
            )
        return text

    def _verdict(self) -> Node:
        """The last node: fails the job if a task failed that did not end it, and writes the pipeline's output parameters."""
        before = list(self._leaves)
        first = next(iter(self._leaves.values())).component.implementation
        if not isinstance(first, Container):
            raise AssertionError("importers have no node")
        shape = Shape("verdict", self._image(first.image, None), len(before), 0, (), (), (), 0, cache=False)
        wiring = self._wiring.of_all() | {
            "before": before,
            "imported": self._external.imported(None),
            "outputs": {},
            "soft": False,
        }
        inputs = {f"m_{n}": self._meta(name) for n, name in enumerate(before)}
        inputs[WIRING] = self._encoded(wiring, VERDICT)
        return Node(VERDICT, "", shape, inputs, {META: "${{parent.outputs.kfp_out}}"}, Place(), wiring)

    def _needs_verdict(self) -> bool:
        dag = self._pipeline.root.implementation
        return bool(self._flat.soft) or bool(getattr(dag, "parameter_outputs", None))

    # Bindings

    def _meta(self, path: str) -> str:
        return f"${{{{parent.jobs.{self._names[path]}.outputs.{META}}}}}"

    def _artifact(self, origin: Origin) -> str:
        if origin.leaf in self._leaves:
            port = self._ports[origin.leaf][f"a_{origin.output}"]
            return f"${{{{parent.jobs.{self._names[origin.leaf]}.outputs.{port}}}}}"
        return f"${{{{parent.inputs.{self._external.port(origin)}}}}}"

    def _kind(self, origin: Origin) -> str:
        return "uri_folder" if origin.leaf in self._leaves else self._external.kind(origin)

    def _artifact_outputs(self) -> dict[str, str]:
        """Return the job's outputs for the pipeline's output artifacts; one with several origins gets one output for each."""
        found: dict[str, str] = {}
        for name, origins in self._flat.outputs.items():
            own = [origin for origin in origins if origin.leaf in self._leaves]
            for number, origin in enumerate(own):
                port = port_name(name) if len(own) == 1 else f"{port_name(name)}_{number}"
                found[port] = self._artifact(origin)
        return found

    def _image(self, reference: str, leaf: Leaf | None) -> str:
        if "{{" in reference:
            from intermodal.engine.placeholders import Context, parameter_names, resolve

            known = leaf.known if leaf else Inputs()
            if parameter_names(reference) - known.parameters.keys():
                raise Unsupported(
                    f"{leaf.path if leaf else 'verdict'}: its image is an output of a task; AzureML must know it at submission",
                    hint="make the image a constant or an argument of the pipeline",
                )
            reference = resolve(reference, Context(parameters=known.parameters))
        return self._images.get(reference, reference)

    def _volume(self, volume: VolumeMount, leaf: Leaf) -> dict[str, Any]:
        source = volume.name
        claim = source.value if isinstance(source, Constant) else leaf.known.parameters.get(getattr(source, "name", ""))
        if not isinstance(claim, str) or not claim:
            raise Unsupported(
                f"{leaf.path}: the claim mounted at {volume.path} is made by a task", hint="name it in the pipeline"
            )
        folder = self._settings.volumes.get(claim)
        if folder is None:
            raise BadInput(
                f"{leaf.path}: claim {claim!r} is not in [tool.intermodal.azureml.volumes]",
                hint=f'{claim} = "azureml://datastores/workspaceblobstore/paths/{claim}"',
            )
        path = f"{folder.rstrip('/')}/{volume.sub_path.strip('/')}" if volume.sub_path else folder
        return {"type": "uri_folder", "mode": "rw_mount", "path": path}

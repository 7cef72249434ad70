"""Random pipelines as IR: graphs in graphs, loops, conditions, OneOf, optional inputs, failing tasks, whatever refers to whatever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
Draw = Any

KINDS = {"text": "STRING", "number": "NUMBER_INTEGER", "truth": "BOOLEAN", "items": "LIST", "struct": "STRUCT"}
CONSTANTS: dict[str, list[Any]] = {
    "STRING": ["", "a", "it's {{$.oops}}", "né\n"],
    "NUMBER_INTEGER": [0, 2, 1e3],
    "BOOLEAN": [True, False],
    "LIST": [[], ["a"], [1, {"k": [2.0, None]}]],
    "STRUCT": [{}, {"key": "x", "n": 1}, {"key": {"deep": [1, 2.5]}}],
}
CONDITIONS = {
    "STRING": ["{} == 'a'", "!({} == 'a')", "'b' != {} && {} != ''"],
    "NUMBER_INTEGER": ["int({}) > 1", "{} == 0 || {} >= 2", "double({}) < 1.5"],
    "BOOLEAN": ["{} == true", "!{}"],
}
DATASET = {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}
DATASETS = {**DATASET, "isArtifactList": True}


@dataclass
class Scope:
    """What a task can refer to: sources of parameters by type, and of single artifacts and lists of them."""

    parameters: dict[str, list[Json]] = field(default_factory=dict)
    single: list[Json] = field(default_factory=list)
    lists: list[Json] = field(default_factory=list)

    def add(self, interface: Json, source: Any, *, looped: bool) -> None:
        """Add a component's outputs (or a graph's own inputs): `source(name, kind)` is how to refer to one."""
        for name, spec in interface.get("parameters", {}).items():
            kind = "LIST" if looped else spec["parameterType"]
            self.parameters.setdefault(kind, []).append(source(name, "Parameter"))
        for name, spec in interface.get("artifacts", {}).items():
            many = looped or spec.get("isArtifactList")
            (self.lists if many else self.single).append(source(name, "Artifact"))


def leaf(draw: Draw) -> Json:
    """Return the component of a container: a few inputs, a few outputs."""
    inputs: Json = {"parameters": {"fragile": {"parameterType": "BOOLEAN", "isOptional": True}}, "artifacts": {}}
    for name in draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=3, unique=True)):
        spec: Json = {"parameterType": KINDS[name]}
        how = draw(st.sampled_from(["required", "optional", "default"]))
        if how != "required":
            spec["isOptional"] = True
        if how == "default":
            spec["defaultValue"] = draw(st.sampled_from(CONSTANTS[KINDS[name]]))
        inputs["parameters"][name] = spec
    if draw(st.booleans()):
        optional = {"isOptional": True} if draw(st.booleans()) else {}
        inputs["artifacts"]["data"] = {**draw(st.sampled_from([DATASET, DATASETS])), **optional}
    outputs: Json = {
        "parameters": {
            name: {"parameterType": KINDS[name]}
            for name in draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=3, unique=True))
        }
    }
    made = draw(st.sampled_from(["", "data", "many"]))
    if made:
        outputs["artifacts"] = {made: DATASET if made == "data" else DATASETS}
    return {"executorLabel": "exec", "inputDefinitions": inputs, "outputDefinitions": outputs}


class Builder:
    """Makes one random pipeline."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.components: Json = {}

    def component(self, depth: int) -> tuple[str, Json]:
        name = f"comp-{len(self.components)}"
        self.components[name] = {}
        nested = depth > 0 and self.draw(st.integers(0, 2)) == 0
        self.components[name].update(self.graph(depth - 1) if nested else leaf(self.draw))
        return name, self.components[name]

    def graph(self, depth: int, *, root: bool = False) -> Json:
        """Return a component that is a graph of one to four tasks."""
        inputs = self.graph_inputs(root)
        scope = Scope()
        scope.add(inputs, lambda name, kind: {f"componentInput{kind}": name}, looped=False)
        tasks: Json = {}
        made: list[tuple[str, Json, bool]] = []
        for number in range(self.draw(st.integers(1, 4))):
            name = f"t{number}"
            reference, component = self.component(depth)
            tasks[name], looped = self.task(name, reference, component, scope, list(tasks))
            outputs = component.get("outputDefinitions", {})
            scope.add(outputs, _output_of(name), looped=looped)
            made.append((name, outputs, looped))
        dag: Json = {"tasks": tasks}
        component = {"dag": dag, "inputDefinitions": inputs}
        dag["outputs"], component["outputDefinitions"] = self.graph_outputs(made)
        return component

    def graph_inputs(self, root: bool) -> Json:
        inputs: Json = {"parameters": {}, "artifacts": {}}
        for name in self.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4, unique=True)):
            spec: Json = {"parameterType": KINDS[name], "isOptional": True}
            if self.draw(st.booleans()):
                spec["defaultValue"] = self.draw(st.sampled_from(CONSTANTS[KINDS[name]]))
            inputs["parameters"][f"pipelinechannel--{name}"] = spec
        if not root and self.draw(st.booleans()):
            inputs["artifacts"]["pipelinechannel--data"] = {**DATASET, "isOptional": True}
        return inputs

    def task(self, name: str, reference: str, component: Json, scope: Scope, before: list[str]) -> tuple[Json, bool]:
        """Return a task and whether it is a loop."""
        draw = self.draw
        inputs: Json = {"parameters": {}, "artifacts": {}}
        task: Json = {"componentRef": {"name": reference}, "taskInfo": {"name": name}, "inputs": inputs}
        declared = component.get("inputDefinitions", {})
        for key, spec in declared.get("parameters", {}).items():
            source = self.parameter(key, spec, scope, inputs["parameters"])
            if source is not None:
                inputs["parameters"][key] = source
        for key, spec in declared.get("artifacts", {}).items():
            sources = [*scope.lists, *scope.single] if spec.get("isArtifactList") else scope.single
            if sources and (not spec.get("isOptional") or draw(st.booleans())):
                inputs["artifacts"][key] = draw(st.sampled_from(sources))
        if before and draw(st.integers(0, 2)) == 0:
            task["dependentTasks"] = draw(st.lists(st.sampled_from(before), unique=True, max_size=2))
        if draw(st.integers(0, 3)) == 0:
            task["retryPolicy"] = {"maxRetryCount": 1, "backoffDuration": "0s"}
        self.trigger(task, scope)
        return task, self.loop(task, declared, scope)

    def parameter(self, key: str, spec: Json, scope: Scope, others: Json) -> Json | None:
        """Return a source for an input, None to leave it out."""
        kind = spec["parameterType"]
        sources = scope.parameters.get(kind, [])
        structs = scope.parameters.get("STRUCT", [])
        how = self.draw(st.sampled_from(["constant", "source", "source", "template", "selected", "nothing"]))
        if how == "nothing" and spec.get("isOptional"):
            return None
        if how == "source" and sources:
            return dict(self.draw(st.sampled_from(sources)))
        if how == "template" and kind in ("STRING", "STRUCT"):
            any_kind = [source for found in scope.parameters.values() for source in found]
            if any_kind:
                others[f"extra--{key}"] = self.draw(st.sampled_from(any_kind))
                text = f"<{{{{$.inputs.parameters['extra--{key}']}}}}|{{{{$.pipeline_task_name}}}}>"
                return {"runtimeValue": {"constant": text if kind == "STRING" else {"key": [text]}}}
        if how == "selected" and structs and key in ("text", "number"):
            step = {"text": "key", "number": "n"}[key]
            return {
                **self.draw(st.sampled_from(structs)),
                "parameterExpressionSelector": f'parseJson(string_value)["{step}"]',
            }
        return {"runtimeValue": {"constant": self.draw(st.sampled_from(CONSTANTS[kind]))}}

    def trigger(self, task: Json, scope: Scope) -> None:
        policy: Json = {}
        if self.draw(st.integers(0, 3)) == 0:
            policy["strategy"] = "ALL_UPSTREAM_TASKS_COMPLETED"
        able = {kind: found for kind, found in scope.parameters.items() if kind in CONDITIONS}
        if able and self.draw(st.integers(0, 2)) == 0:
            kind = self.draw(st.sampled_from(sorted(able)))
            task["inputs"]["parameters"]["tested"] = self.draw(st.sampled_from(able[kind]))
            reference = "inputs.parameter_values['tested']"
            policy["condition"] = self.draw(st.sampled_from(CONDITIONS[kind])).replace("{}", reference)
        if policy:
            task["triggerPolicy"] = policy

    def loop(self, task: Json, declared: Json, scope: Scope) -> bool:
        draw = self.draw
        items = [key for key, spec in declared.get("parameters", {}).items() if spec["parameterType"] == "STRING"]
        if items and draw(st.integers(0, 1)) == 0:
            item = draw(st.sampled_from(items))
            task["inputs"]["parameters"].pop(item, None)
            lists = scope.parameters.get("LIST", [])
            if lists and draw(st.booleans()):
                task["inputs"]["parameters"]["looped"] = draw(st.sampled_from(lists))
                where = {"inputParameter": "looped"}
            else:
                where = {"raw": draw(st.sampled_from(['["a", "b"]', "[]", '["x", 1, {"k": 2}]']))}
            task["parameterIterator"] = {"items": where, "itemInput": item}
            if draw(st.booleans()):
                task["iteratorPolicy"] = {"parallelismLimit": 1}
            return True
        things = [key for key, spec in declared.get("artifacts", {}).items() if not spec.get("isArtifactList")]
        if things and scope.lists and draw(st.booleans()):
            task["inputs"]["artifacts"].pop(things[0], None)
            task["inputs"]["artifacts"]["looped"] = draw(st.sampled_from(scope.lists))
            task["artifactIterator"] = {"items": {"inputArtifact": "looped"}, "itemInput": things[0]}
            return True
        return False

    def graph_outputs(self, made: list[tuple[str, Json, bool]]) -> tuple[Json, Json]:
        """Return what the graph gives out, and its declaration; an output that two tasks make is OneOf."""
        outputs: Json = {"parameters": {}, "artifacts": {}}
        declared: Json = {"parameters": {}, "artifacts": {}}
        sources: dict[tuple[str, str], list[Json]] = {}
        for task, interface, looped in made:
            for name, spec in interface.get("parameters", {}).items():
                kind = "LIST" if looped else spec["parameterType"]
                selector = {"producerSubtask": task, "outputParameterKey": name}
                sources.setdefault(("parameters", kind), []).append(selector)
            for name, spec in interface.get("artifacts", {}).items():
                many = looped or spec.get("isArtifactList", False)
                selector = {"producerSubtask": task, "outputArtifactKey": name}
                sources.setdefault(("artifacts", "many" if many else "data"), []).append(selector)
        by_kind = {kind: name for name, kind in KINDS.items()}
        for (what, kind), found in sources.items():
            chosen = self.draw(st.lists(st.sampled_from(found), max_size=2))
            if what == "artifacts" and chosen:
                outputs[what][kind] = {"artifactSelectors": chosen}
                declared[what][kind] = DATASETS if kind == "many" else DATASET
            elif chosen:
                one = {"valueFromParameter": chosen[0]}
                several = {"valueFromOneof": {"parameterSelectors": chosen}}
                outputs[what][by_kind[kind]] = one if len(chosen) == 1 else several
                declared[what][by_kind[kind]] = {"parameterType": kind}
        return outputs, declared


def _output_of(task: str) -> Any:
    def source(name: str, kind: str) -> Json:
        return {f"taskOutput{kind}": {"producerTask": task, f"output{kind}Key": name}}

    return source


@st.composite
def pipelines(draw: Draw) -> Json:
    """Return the IR of a random pipeline whose containers are all the stub program."""
    builder = Builder(draw)
    root = builder.graph(2, root=True)
    command = [
        "stub",
        "{{$}}",
        "{{$.inputs.parameters['text']}}",
        '{"IfPresent": {"InputName": "data", "Then": ["given"]}}',
    ]
    return {
        "pipelineInfo": {"name": "random"},
        "schemaVersion": "2.1.0",
        "root": root,
        "components": builder.components,
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "stub", "command": command}}}},
    }

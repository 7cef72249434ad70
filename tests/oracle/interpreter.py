"""The interpreter: one task after another, each reference looked up where it points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.condition import holds
from tests.oracle.leaf import Executor, Leaf, Step, Thing, Values
from tests.oracle.values import Wrong, arguments, fill, fill_everywhere, key_of, typed, whole


@dataclass
class Seen:
    """What became of one task, or of one iteration of a loop. Skipped and undecidable ones have no inputs."""

    state: str
    inputs: Values | None = None
    outputs: Values = field(default_factory=Values)


class Interpreter:
    """Runs one pipeline: `document` is its PipelineSpec as plain values, `job` what `pipeline_job_name` and the like mean."""

    def __init__(
        self, document: dict[str, Any], executor: Executor, job: dict[str, str], success: str = "COMPLETE"
    ) -> None:
        self._document = whole(document)
        self._executor = executor
        self._job = job
        self._success = success
        self.tasks: dict[str, Seen] = {}
        """Every task and every iteration by its path."""

    def run(self, given: Values) -> Seen:
        """Run the pipeline with these inputs. Raises Wrong if they are not what it takes."""
        root = self._document["root"]
        inputs, _ = self._bind(root, given.parameters, given.artifacts, "pipeline", lenient=False)
        state, outputs = self._dag("", root, inputs)
        return Seen(state, inputs, outputs)

    # Graphs

    def _dag(self, path: str, component: dict[str, Any], inputs: Values) -> tuple[str, Values]:
        tasks = component["dag"].get("tasks", {})
        done: dict[str, Seen] = {}
        while len(done) < len(tasks):
            for name, task in sorted(tasks.items()):
                upstream = self._upstream(task)
                if name not in done and upstream <= done.keys():
                    here = f"{path}/{name}" if path else name
                    done[name] = self.tasks[here] = self._task(here, name, task, inputs, done, upstream)
                    break
            else:
                raise Wrong(f"{path}: the tasks wait for each other")
        state = "FAILED" if any(seen.state == "FAILED" for seen in done.values()) else "SUCCEEDED"
        return state, self._dag_outputs(component["dag"].get("outputs", {}), done)

    def _upstream(self, task: dict[str, Any]) -> set[str]:
        names = set(task.get("dependentTasks", []))
        for kind in task.get("inputs", {}).values():
            for source in kind.values():
                for how in ("taskOutputParameter", "taskOutputArtifact", "taskFinalStatus"):
                    if how in source:
                        names.add(source[how]["producerTask"])
        return names

    def _dag_outputs(self, outputs: dict[str, Any], done: dict[str, Seen]) -> Values:
        """Take each output from the first of its selectors that has it: of OneOf's branches only one ran."""
        result = Values()
        for name, spec in outputs.get("parameters", {}).items():
            one_of = spec.get("valueFromOneof", {}).get("parameterSelectors")
            for selector in one_of or [spec["valueFromParameter"]]:
                given = done[selector["producerSubtask"]].outputs.parameters
                if name not in result.parameters and selector["outputParameterKey"] in given:
                    result.parameters[name] = given[selector["outputParameterKey"]]
        for name, spec in outputs.get("artifacts", {}).items():
            for selector in spec["artifactSelectors"]:
                made = done[selector["producerSubtask"]].outputs.artifacts
                if name not in result.artifacts and selector["outputArtifactKey"] in made:
                    result.artifacts[name] = made[selector["outputArtifactKey"]]
        return result

    # Tasks

    def _task(
        self, path: str, name: str, task: dict[str, Any], around: Values, done: dict[str, Seen], upstream: set[str]
    ) -> Seen:
        trigger = task.get("triggerPolicy", {})
        whatever = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        if not whatever and any(done[other].state != "SUCCEEDED" for other in upstream):
            return Seen("SKIPPED")
        component = self._document["components"][task["componentRef"]["name"]]
        try:
            parameters, artifacts = self._given(self._names(path, name), task, around, done)
            looping = "parameterIterator" in task or "artifactIterator" in task
            tested = parameters
            if not looping:
                bound, rest = self._bind(component, parameters, artifacts, path, lenient="dag" in component)
                tested = {**rest, **bound.parameters}
            if trigger.get("condition") and not holds(trigger["condition"], tested):
                return Seen("SKIPPED")
            if looping:
                return self._loop(path, name, task, component, parameters, artifacts)
            return self._instance(path, name, task, component, parameters, artifacts)
        except Wrong:
            return Seen("FAILED")

    def _names(self, path: str, name: str) -> dict[str, str]:
        """Return what the placeholders of job and task mean."""
        uuid = f"{self._job['pipeline_job_uuid']}/{path}"
        return {**self._job, "pipeline_task_name": name, "pipeline_task_uuid": uuid}

    def _given(
        self, names: dict[str, str], task: dict[str, Any], around: Values, done: dict[str, Seen]
    ) -> tuple[dict[str, Any], dict[str, list[Thing]]]:
        """Return the task's inputs as they are given, before the component says what it takes."""
        parameters: dict[str, Any] = {}
        constants: dict[str, Any] = {}
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            runtime = source.get("runtimeValue", {})
            if "constant" in runtime:
                constants[key] = runtime["constant"]
                continue
            value = self._parameter(source, around, done)
            if value is not None and source.get("parameterExpressionSelector"):
                value = _selected(value, source["parameterExpressionSelector"])
            if value is not None:
                parameters[key] = value
        channels = dict(parameters)

        def look_up(placeholder: str) -> Any:
            if placeholder.removeprefix("$.") in names:
                return names[placeholder.removeprefix("$.")]
            return channels.get(key_of(placeholder, "$.inputs.parameters"))

        for key, constant in constants.items():
            value = fill_everywhere(constant, look_up)
            if value is not None:
                parameters[key] = value
        artifacts = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            if "taskOutputArtifact" in source:
                produced = source["taskOutputArtifact"]
                found = done[produced["producerTask"]].outputs.artifacts.get(produced["outputArtifactKey"])
            else:
                found = around.artifacts.get(source["componentInputArtifact"])
            if found is not None:
                artifacts[key] = found
        return parameters, artifacts

    def _parameter(self, source: dict[str, Any], around: Values, done: dict[str, Seen]) -> Any:
        if "componentInputParameter" in source:
            return around.parameters.get(source["componentInputParameter"])
        if "taskOutputParameter" in source:
            produced = source["taskOutputParameter"]
            return done[produced["producerTask"]].outputs.parameters.get(produced["outputParameterKey"])
        if "taskFinalStatus" in source:
            producer = source["taskFinalStatus"]["producerTask"]
            return self._final_status(producer, done[producer])
        return around.parameters.get(source["runtimeValue"]["runtimeParameter"])

    def _final_status(self, name: str, seen: Seen) -> dict[str, Any]:
        words = {"SUCCEEDED": self._success, "FAILED": "FAILED", "SKIPPED": "SKIPPED"}
        return {
            "state": words[seen.state],
            "pipelineTaskName": name,
            "pipelineJobResourceName": self._job["pipeline_job_resource_name"],
            "error": {},
        }

    def _loop(
        self,
        path: str,
        name: str,
        task: dict[str, Any],
        component: dict[str, Any],
        parameters: dict[str, Any],
        artifacts: dict[str, list[Thing]],
    ) -> Seen:
        seen = []
        for index, (more, things) in enumerate(_rounds(task, component, parameters, artifacts)):
            here = f"{path}/{index}"
            try:
                seen.append(self._instance(here, name, task, component, more, things))
            except Wrong:
                seen.append(Seen("FAILED"))
            self.tasks[here] = seen[-1]
        declared = component.get("outputDefinitions", {})
        together = Values(
            {key: [] for key in declared.get("parameters", {})}, {key: [] for key in declared.get("artifacts", {})}
        )
        for one in seen:
            for key, value in one.outputs.parameters.items():
                together.parameters[key] = [*together.parameters[key], value]
            for key, made in one.outputs.artifacts.items():
                together.artifacts[key] = [*together.artifacts[key], *made]
        state = "FAILED" if any(one.state == "FAILED" for one in seen) else "SUCCEEDED"
        return Seen(state, None, together)

    def _instance(
        self,
        path: str,
        name: str,
        task: dict[str, Any],
        component: dict[str, Any],
        parameters: dict[str, Any],
        artifacts: dict[str, list[Thing]],
    ) -> Seen:
        inputs, channels = self._bind(component, parameters, artifacts, path, lenient="dag" in component)
        if "dag" in component:
            state, outputs = self._dag(path, component, inputs)
            return Seen(state, inputs, outputs)
        executor = self._document["deploymentSpec"]["executors"][component["executorLabel"]]
        try:
            if "importer" in executor:
                return Seen("SUCCEEDED", inputs, self._import(executor["importer"], component, inputs, channels))
            return self._container(path, name, task, component, executor["container"], inputs, channels)
        except Wrong:
            return Seen("FAILED", inputs)

    def _bind(
        self,
        component: dict[str, Any],
        parameters: dict[str, Any],
        artifacts: dict[str, list[Thing]],
        what: str,
        *,
        lenient: bool,
    ) -> tuple[Values, dict[str, Any]]:
        """Return the inputs as the component declares them, and what it does not declare (only placeholders see that).

        A graph inside of a pipeline is not asked for what it lacks: the compiler declares everything that passes through as required.
        """
        declared = component.get("inputDefinitions", {})
        bound = Values(artifacts=dict(artifacts))
        for name, spec in declared.get("parameters", {}).items():
            value = parameters.get(name)
            value = spec.get("defaultValue") if value is None else value
            if value is not None:
                bound.parameters[name] = typed(value, spec["parameterType"], f"{what}: {name}")
                if spec.get("literals") and bound.parameters[name] not in spec["literals"]:
                    raise Wrong(f"{what}: {name} may not be {value!r}")
            elif not (spec.get("isOptional") or "defaultValue" in spec or lenient):
                raise Wrong(f"{what}: {name} has no value")
        for name, spec in declared.get("artifacts", {}).items():
            if name not in artifacts and not (spec.get("isOptional") or lenient):
                raise Wrong(f"{what}: artifact {name} is missing")
        rest = {name: value for name, value in parameters.items() if name not in declared.get("parameters", {})}
        return bound, rest

    # Leaves

    def _import(
        self, importer: dict[str, Any], component: dict[str, Any], inputs: Values, channels: dict[str, Any]
    ) -> Values:
        known = {**channels, **inputs.parameters}

        def look_up(placeholder: str) -> Any:
            return known.get(key_of(placeholder, "$.inputs.parameters"))

        uri = importer["artifactUri"]
        written = known.get(uri["runtimeParameter"]) if "runtimeParameter" in uri else fill(uri["constant"], look_up)
        if not written:
            raise Wrong("the importer has no URI")
        metadata = fill_everywhere(importer.get("metadata", {}), look_up, typed=True)
        if importer.get("downloadToWorkspace"):
            metadata["_kfp_workspace"] = True
        (name,) = component["outputDefinitions"]["artifacts"]
        kind = importer["typeSchema"].get("schemaTitle", "system.Artifact")
        kept = written if written.startswith(("gs://", "s3://", "minio://", "oci://")) else ""
        return Values({}, {name: [Thing(kind, self._executor.fetch(written), kept, metadata)]})

    def _container(
        self,
        path: str,
        name: str,
        task: dict[str, Any],
        component: dict[str, Any],
        container: dict[str, Any],
        inputs: Values,
        channels: dict[str, Any],
    ) -> Seen:
        tries = 1 + int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        for attempt in range(1, tries + 1):
            place = self._executor.place(path, attempt)
            leaf = Leaf(component, inputs, channels, place, self._names(path, name))
            step = Step(
                path=path,
                attempt=attempt,
                command=arguments(container.get("command", []), leaf.look_up, leaf.present),
                args=arguments(container.get("args", []), leaf.look_up, leaf.present),
                env=[
                    (pair["name"], fill(str(pair.get("value", "")), leaf.look_up)) for pair in container.get("env", [])
                ],
                image=fill(container["image"], leaf.look_up),
                parameters=inputs.parameters,
            )
            code = self._executor.run(step, place, inputs.artifacts, leaf.lists)
            if code == 0:
                try:
                    return Seen("SUCCEEDED", inputs, leaf.outputs())
                except Wrong:
                    continue
        return Seen("FAILED", inputs)


def _rounds(
    task: dict[str, Any], component: dict[str, Any], parameters: dict[str, Any], artifacts: dict[str, list[Thing]]
) -> Iterator[tuple[dict[str, Any], dict[str, list[Thing]]]]:
    """Yield the inputs of each round of a loop: the list taken out (unless a task inside takes it too), the item put in."""
    inside = [
        kind
        for inner in component.get("dag", {}).get("tasks", {}).values()
        for kind in inner.get("inputs", {}).values()
    ]
    taken = {
        reference
        for kind in inside
        for source in kind.values()
        for how, reference in source.items()
        if how in ("componentInputParameter", "componentInputArtifact")
    }
    if "artifactIterator" in task:
        iterator = task["artifactIterator"]
        source = iterator["items"]["inputArtifact"]
        if source not in artifacts:
            raise Wrong(f"nobody made {source}")
        for thing in artifacts[source]:
            rest = {key: things for key, things in artifacts.items() if key != source or key in taken}
            yield parameters, {**rest, iterator["itemInput"]: [thing]}
        return
    iterator = task["parameterIterator"]
    source = iterator["items"].get("inputParameter")
    items = parameters.get(source) if source else iterator["items"]["raw"]
    try:
        items = whole(json.loads(items)) if isinstance(items, str) else items
    except ValueError as error:
        raise Wrong(f"{items!r} is no list") from error
    if type(items) is not list:
        raise Wrong(f"{items!r} is no list")
    for item in items:
        rest = {key: value for key, value in parameters.items() if key != source or key in taken}
        yield {**rest, iterator["itemInput"]: item}, artifacts


def _selected(value: Any, selector: str) -> Any:
    """Return what `parseJson(string_value)["a"][0]` says of a value."""
    steps = selector.removeprefix("parseJson(string_value)")
    try:
        value = json.loads(value) if isinstance(value, str) else value
        for step in filter(None, steps.replace("]", "").split("[")):
            value = value[json.loads(step)]
    except (ValueError, LookupError, TypeError) as error:
        raise Wrong(f"{selector} of {value!r}") from error
    return whole(value)

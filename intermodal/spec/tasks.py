"""DAGs and tasks of an IR document as typed values; dependencies that inputs imply are made explicit here."""

from __future__ import annotations

from typing import Any

from intermodal.bounded import parse_json
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.document import Node, plain
from intermodal.spec.types import (
    Constant,
    Dag,
    FinalStatus,
    FromInput,
    FromTask,
    Iterator,
    Retry,
    Source,
    Task,
    TriggerStrategy,
)


def read_dag(node: Node) -> Dag:
    outputs = node.mapping("outputs")
    return Dag(
        tasks={name: _task(name, child) for name, child in node.mapping("tasks").items()},
        parameter_outputs={name: _parameter_output(child) for name, child in outputs.mapping("parameters").items()},
        artifact_outputs={
            name: tuple(
                FromTask(selector.text("producerSubtask"), selector.text("outputArtifactKey"))
                for selector in child.nodes("artifactSelectors")
            )
            for name, child in outputs.mapping("artifacts").items()
        },
    )


def _parameter_output(node: Node) -> tuple[FromTask, ...]:
    if "valueFromParameter" in node.value:
        selectors = [node.mapping("valueFromParameter")]
    elif "valueFromOneof" in node.value:
        selectors = node.mapping("valueFromOneof").nodes("parameterSelectors")
    else:
        raise BadInput(f"{node.path}: names no source")
    return tuple(FromTask(item.text("producerSubtask"), item.text("outputParameterKey")) for item in selectors)


def _task(name: str, node: Node) -> Task:
    inputs = node.mapping("inputs")
    parameters = {key: parameter_source(child) for key, child in inputs.mapping("parameters").items()}
    artifacts = {key: _artifact_source(child) for key, child in inputs.mapping("artifacts").items()}
    trigger = node.mapping("triggerPolicy")
    caching = node.mapping("cachingOptions")
    return Task(
        name=name,
        component=node.mapping("componentRef").text("name"),
        display_name=node.mapping("taskInfo").text("name", name),
        parameters=parameters,
        artifacts=artifacts,
        dependencies=_dependencies(node.texts("dependentTasks"), [*parameters.values(), *artifacts.values()]),
        condition=trigger.text("condition", ""),
        strategy=_strategy(trigger),
        iterator=_iterator(node),
        retry=_retry(node.mapping("retryPolicy")),
        cache=bool(caching.value.get("enableCache")),
        cache_key=caching.text("cacheKey", ""),
    )


def _dependencies(declared: tuple[str, ...], sources: list[Source]) -> tuple[str, ...]:
    implied = {source.task for source in sources if isinstance(source, (FromTask, FinalStatus))}
    return tuple(sorted(implied | set(declared)))


def _strategy(trigger: Node) -> TriggerStrategy:
    written = trigger.value.get("strategy") or TriggerStrategy.ALL_SUCCEEDED.value
    if written == "TRIGGER_STRATEGY_UNSPECIFIED":
        written = TriggerStrategy.ALL_SUCCEEDED.value
    try:
        return TriggerStrategy(written)
    except ValueError as error:
        raise Unsupported(f"{trigger.path}: trigger strategy {written!r} is not known") from error


def parameter_source(node: Node) -> Source:
    """Read an InputParameterSpec. Raises Unsupported for a kind of source that is not known."""
    selector = node.text("parameterExpressionSelector", "")
    if "taskOutputParameter" in node.value:
        source = node.mapping("taskOutputParameter")
        return FromTask(source.text("producerTask"), source.text("outputParameterKey"), selector)
    if "taskFinalStatus" in node.value:
        return FinalStatus(node.mapping("taskFinalStatus").text("producerTask"))
    if "componentInputParameter" in node.value:
        return FromInput(node.text("componentInputParameter"), selector)
    if "runtimeValue" in node.value:
        return runtime_source(node.mapping("runtimeValue"))
    raise Unsupported(f"{node.path}: unknown kind of input {sorted(node.value)}")


def runtime_source(node: Node) -> Source:
    """Read a ValueOrRuntimeParameter: a constant, or a parameter of the same task."""
    if "constant" in node.value:
        return Constant(node.value["constant"])
    if "constantValue" in node.value:  # before schema 2.1: {"stringValue": ...}
        return Constant(next(iter(node.mapping("constantValue").value.values()), None))
    if "runtimeParameter" in node.value:
        return FromInput(node.text("runtimeParameter"))
    raise BadInput(f"{node.path}: holds neither a constant nor a runtime parameter")


def _artifact_source(node: Node) -> Source:
    if "taskOutputArtifact" in node.value:
        source = node.mapping("taskOutputArtifact")
        return FromTask(source.text("producerTask"), source.text("outputArtifactKey"))
    if "componentInputArtifact" in node.value:
        return FromInput(node.text("componentInputArtifact"))
    raise Unsupported(f"{node.path}: unknown kind of artifact input {sorted(node.value)}")


def _iterator(node: Node) -> Iterator | None:
    limit = int(node.mapping("iteratorPolicy").number("parallelismLimit", 0))
    if "parameterIterator" in node.value:
        iterator = node.mapping("parameterIterator")
        items = iterator.mapping("items")
        raw = items.value.get("raw")
        return Iterator(
            item=iterator.text("itemInput"),
            raw=_raw_items(items, raw) if raw is not None else None,
            input=items.text("inputParameter") if raw is None else None,
            limit=limit,
        )
    if "artifactIterator" in node.value:
        iterator = node.mapping("artifactIterator")
        return Iterator(
            item=iterator.text("itemInput"),
            input=iterator.mapping("items").text("inputArtifact"),
            over_artifacts=True,
            limit=limit,
        )
    return None


def _raw_items(node: Node, raw: Any) -> tuple[Any, ...]:
    try:
        items = plain(parse_json(raw)) if isinstance(raw, str) else raw
    except ValueError as error:
        raise BadInput(f"{node.path}.raw: is not JSON: {error}") from error
    if not isinstance(items, list):
        raise BadInput(f"{node.path}.raw: a loop needs a list, got {type(items).__name__}")
    return tuple(items)


def _retry(node: Node) -> Retry:
    return Retry(
        count=int(node.number("maxRetryCount", 0)),
        delay=_seconds(node, "backoffDuration", 0.0),
        factor=node.number("backoffFactor", 2.0) or 2.0,
        total=_seconds(node, "backoffMaxDuration", 3600.0) or 3600.0,
    )


def _seconds(node: Node, key: str, default: float) -> float:
    """Read a protobuf Duration as JSON writes it: `3.5s`."""
    written = node.value.get(key)
    if written is None:
        return default
    try:
        return float(str(written).removesuffix("s"))
    except ValueError as error:
        raise BadInput(f"{node.path}.{key}: is not a duration: {written!r}") from error

"""What makes another task, and what does not: each part of the identity, changed alone, over random tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.fingerprint import Given, Identity, identify, identify_by_key
from intermodal.spec.types import (
    ArtifactType,
    Component,
    Container,
    InputArtifact,
    InputParameter,
    KubernetesSettings,
    OutputArtifact,
    ParameterType,
    Resources,
)

DATASET, MODEL = ArtifactType("system.Dataset"), ArtifactType("system.Model")


@dataclass(frozen=True)
class Case:
    """Everything that `identify` sees of a task."""

    component: Component
    container: Container
    inputs: Inputs
    image: str
    job: dict[str, str]
    given: Given

    def identity(self) -> Identity:
        return identify(self.component, self.container, self.inputs, self.image, self.job, self.given)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    parameters = draw(st.dictionaries(words, values, max_size=3)) | {"p": draw(values)}
    component = Component(
        "comp-a",
        Container("image"),
        {name: InputParameter(ParameterType.STRUCT) for name in parameters},
        {"data": InputArtifact(DATASET)},
        {"out": ParameterType.STRING},
        {"model": OutputArtifact(MODEL)},
    )
    container = Container(
        "image",
        ("run", draw(words)),
        ("{{$.inputs.parameters['p']}}", "{{$.inputs.artifacts['data'].path}}", "{{$}}", draw(words)),
        (("VARIABLE", draw(words)),),
        kubernetes=KubernetesSettings(empty_dirs=("/scratch",)),
    )
    data = Artifact("made", DATASET, draw(words), metadata=draw(st.dictionaries(words, values, max_size=2)))
    given = Given((("V", "metadata.labels['a']", "x"),), (("/m", "claim", ""),), (("secret", "/s", "n", "k", 1),))
    job = {"pipeline_job_uuid": "run-1", "pipeline_task_name": "a"}
    return Case(component, container, Inputs(parameters, {"data": (data,)}), draw(words), job, given)


def component(case: Case, **changes: Any) -> Case:
    return replace(case, component=replace(case.component, **changes))


def container(case: Case, **changes: Any) -> Case:
    return replace(case, container=replace(case.container, **changes))


def parameters(case: Case, **changes: Any) -> Case:
    return replace(case, inputs=replace(case.inputs, parameters={**case.inputs.parameters, **changes}))


def data(case: Case, **changes: Any) -> Case:
    (item,) = case.inputs.artifacts["data"]
    return replace(case, inputs=replace(case.inputs, artifacts={"data": (replace(item, **changes),)}))


def given_(case: Case, **changes: Any) -> Case:
    return replace(case, given=replace(case.given, **changes))


OTHER: dict[str, tuple[str, Callable[[Case], Case]]] = {
    "image": ("image", lambda c: replace(c, image=c.image + "x")),
    "command": ("command", lambda c: container(c, command=(*c.container.command, "x"))),
    "order of the command": ("command", lambda c: container(c, command=("x", "y", *c.container.command))),
    "args": ("args", lambda c: container(c, args=(*c.container.args, ""))),
    "parameter": ("parameters", lambda c: parameters(c, p=[c.inputs.parameters["p"]])),
    "one parameter more": ("parameters", lambda c: parameters(c, **{"a new one": None})),
    "content": ("artifacts", lambda c: data(c, digest=c.inputs.artifacts["data"][0].digest + "x")),
    "metadata": ("artifacts", lambda c: data(c, metadata={"a new one": 1})),
    "two artifacts": (
        "artifacts",
        lambda c: replace(c, inputs=replace(c.inputs, artifacts={"data": c.inputs.artifacts["data"] * 2})),
    ),
    "name of an artifact, which a component sees in its executor input": ("args", lambda c: data(c, name="other")),
    "type of an artifact, likewise": ("args", lambda c: data(c, type=MODEL)),
    "value in the environment": ("env", lambda c: container(c, env=(("VARIABLE", c.container.env[0][1] + "x"),))),
    "variable": ("env", lambda c: container(c, env=(*c.container.env, ("OTHER", "")))),
    "type of an input": (
        "interface",
        lambda c: component(c, input_parameters={n: InputParameter(ParameterType.LIST) for n in c.inputs.parameters}),
    ),
    "type of an output": ("interface", lambda c: component(c, output_parameters={"out": ParameterType.INTEGER})),
    "one output more": ("interface", lambda c: component(c, output_parameters={**c.component.output_parameters, "b": ParameterType.LIST})),
    "type of an output artifact": ("interface", lambda c: component(c, output_artifacts={"model": OutputArtifact(DATASET)})),
    "list of artifacts": ("interface", lambda c: component(c, input_artifacts={"data": InputArtifact(DATASET, True)})),
    "label that a variable holds": ("fields", lambda c: given_(c, fields=(("V", "metadata.labels['a']", "y"),))),
    "claim": ("volumes", lambda c: given_(c, volumes=(("/m", "other", ""),))),
    "place of a claim": ("volumes", lambda c: given_(c, volumes=(("/n", "claim", ""),))),
    "scratch folder": ("scratch", lambda c: container(c, kubernetes=KubernetesSettings())),
    "version of a secret": ("secrets", lambda c: given_(c, secrets=(("secret", "/s", "n", "k", 2),))),
    "secret of another name": ("secrets", lambda c: given_(c, secrets=(("secret", "/s", "m", "k", 1),))),
    "config map in place of a secret": ("secrets", lambda c: given_(c, secrets=(("config map", "/s", "n", "k", 1),))),
}  # fmt: skip

SAME: dict[str, Callable[[Case], Case]] = {
    "name of the component": lambda c: component(c, name="comp-b"),
    "tag of the image": lambda c: container(c, image="other:tag"),
    "where an artifact lies": lambda c: data(c, uri="/elsewhere/entirely") if c.inputs.artifacts["data"][0].digest else c,
    "resources": lambda c: container(c, resources=Resources(cpu_limit="2", memory_limit="1Gi")),
    "labels that no variable holds": lambda c: container(
        c, kubernetes=replace(c.container.kubernetes, labels=(("a", "b"),), annotations=(("c", "d"),))
    ),
    "deadline and pull policy": lambda c: container(
        c, kubernetes=replace(c.container.kubernetes, deadline=3.0, pull_policy="Always", shared_memory="1Gi")
    ),
    "default of an input": lambda c: component(
        c, input_parameters={n: InputParameter(ParameterType.STRUCT, True, True, 1) for n in c.inputs.parameters}
    ),
    "run and task, where no placeholder names them": lambda c: replace(c, job={"pipeline_job_uuid": "run-2"}),
    "order of keys": lambda c: replace(
        c, inputs=replace(c.inputs, parameters=dict(reversed(list(c.inputs.parameters.items()))))
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER)
@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_this_makes_another_task(kind: str, case: Case):
    part, change = OTHER[kind]
    before, after = case.identity(), change(case).identity()
    assert before.fingerprint != after.fingerprint
    changed = {name for (name, old), (_, new) in zip(before.parts, after.parts, strict=True) if old != new}
    assert part in changed and changed <= {part, "args"}  # {{$}} among the arguments holds the inputs too


@pytest.mark.parametrize("kind", SAME)
@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_this_does_not(kind: str, case: Case):
    assert case.identity() == SAME[kind](case).identity()


def test_a_placeholder_that_names_the_run_makes_each_run_another_task():
    case = Case(
        Component("c", Container("i")), Container("i", args=("{{$.pipeline_job_uuid}}",)), Inputs(), "d",
        {"pipeline_job_uuid": "run-1"}, Given(),
    )  # fmt: skip
    other = replace(case, job={"pipeline_job_uuid": "run-2"})
    assert case.identity().fingerprint != other.identity().fingerprint


def test_the_authors_own_key_is_all_that_counts():
    one, two = Component("c", Container("i")), Component("c", Container("another"))
    assert identify_by_key(one, "k") == identify_by_key(two, "k")
    assert identify_by_key(one, "k").fingerprint != identify_by_key(one, "l").fingerprint
    assert identify_by_key(one, "k").fingerprint != identify_by_key(replace(one, name="d"), "k").fingerprint


def test_parameters_do_not_run_into_one_another():
    def identity(**given: Any) -> str:
        return (
            Case(Component("c", Container("i")), Container("i"), Inputs(given), "d", {}, Given()).identity().fingerprint
        )

    assert len({identity(a="1", b="2"), identity(a="12", b=""), identity(a=1, b=2), identity(a="1,b:2")}) == 4

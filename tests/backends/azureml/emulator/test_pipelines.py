"""Pipeline jobs of command nodes, on this machine's processes: order, bindings, values, failures, nesting, the end."""

from __future__ import annotations

import time

import pytest

from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from tests.backends.azureml.emulator.conftest import Start
from tests.backends.azureml.emulator.jobs import component, node, out, pipeline
from tests.backends.azureml.emulator.plane import FolderPlane
from tests.support.host import HostBackend

WRITE = component('printf %s "${{inputs.text}}" > ${{outputs.to}}/text', {"text": "string"}, {"to": "uri_folder"})
COPY = component(
    'printf "%s+" "$(cat ${{inputs.one}}/text)" > ${{outputs.to}}/text', {"one": "uri_folder"}, {"to": "uri_folder"}
)
JOIN = component(
    "cat ${{inputs.one}}/text ${{inputs.two}}/text > ${{outputs.to}}/text",
    {"one": "uri_folder", "two": "uri_folder"},
    {"to": "uri_folder"},
)
FAIL = component("echo broken; exit 3", {"after": {"type": "uri_folder", "optional": True}}, {"to": "uri_folder"})


def run(executor: JobExecutor, plane: FolderPlane, body, name: str = "job"):
    executor.submit(name, body)
    return plane.wait(name)


def test_data_flows_and_job_outputs_are_published(host: JobExecutor, plane: FolderPlane):
    plane.components["/components/copy"] = COPY
    jobs = {
        "last": node(JOIN, {"one": out("left", "to"), "two": out("right", "to")}, {"to": "${{parent.outputs.all}}"}),
        "left": node("/components/copy", {"one": out("first", "to")}),
        "right": node("/components/copy", {"one": out("first", "to")}),
        "first": node(WRITE, {"text": "${{parent.inputs.word}}"}),
    }
    outputs = {"all": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/mine/paths/${{name}}/x"}}
    done = run(host, plane, pipeline(jobs, {"word": "a b"}, outputs))
    assert done.states == ["Running", "Completed"] and done.error is None
    last = next(child.id for child in plane.children.values() if child.name == "last")
    assert done.outputs == {"all": f"azureml://datastores/mine/paths/{last}/x"}
    assert plane.content(done.outputs["all"]) == {"text": "a b+a b+"}
    assert plane.nodes()["last"].states == ["Queued", "Preparing", "Running", "Finalizing", "Completed"]
    assert {child.root for child in plane.children.values()} == {"job"}


def test_independent_nodes_run_at_once_up_to_the_cores(start: Start, plane: FolderPlane):
    backend = HostBackend()
    executor = start(backend, cores=2)
    nap = component("sleep 0.5", {}, {})
    run(executor, plane, pipeline({f"n{number}": node(nap) for number in range(4)}))
    assert backend.most == 2


def test_values_and_what_is_optional(host: JobExecutor, plane: FolderPlane):
    show = component(
        'printf "%s\\n" ${{inputs.number}} "$[[--flag ${{inputs.flag}}]]" "$[[--none ${{inputs.none}}]]" ${{inputs.back}} '
        '"$AZURE_ML_INPUT_number" "$AZURE_ML_OUTPUT_to" ${{outputs.to}} "$OWN" > ${{outputs.to}}/text',
        {
            "number": {"type": "number", "default": 2.5},
            "flag": {"type": "boolean", "optional": "True"},
            "none": {"type": "string", "optional": True},
            "back": {"type": "integer", "default": "7"},
        },
        {"to": "uri_folder"},
        environment_variables={"OWN": "${{inputs.number}} of the component"},
    )
    done = run(
        host,
        plane,
        pipeline({"show": node(show, {"flag": "True"}, {"to": "${{parent.outputs.all}}"})}, {}, {"all": {}}),
    )
    assert done.error is None
    lines = plane.content(done.outputs["all"])["text"].splitlines()
    assert lines[:5] == ["2.5", "--flag True", "", "7", "2.5"]
    assert lines[5] == lines[6] and lines[5].endswith("/to") and lines[7] == "2.5 of the component"


def test_code_is_copied_and_what_a_node_leaves_in_outputs_is_its_artifacts(host: JobExecutor, plane: FolderPlane):
    code = plane.folder / "code"
    code.mkdir()
    (code / "main.sh").write_text("echo from code > outputs/text; echo more >> main.sh")
    plane.assets["/codes/1"] = code
    first = component("sh main.sh", code="/codes/1")
    second = component("cat ${{inputs.x}}/outputs/text", {"x": "uri_folder"})
    assert run(host, plane, pipeline({"a": node(first), "b": node(second, {"x": out("a", "artifacts")})})).error is None
    assert plane.log("b") == "from code\n"
    assert (code / "main.sh").read_text() == "echo from code > outputs/text; echo more >> main.sh"


def test_files_data_inputs_and_addresses(host: JobExecutor, plane: FolderPlane):
    plane.path("azureml://datastores/d/paths/in").mkdir(parents=True)
    (plane.path("azureml://datastores/d/paths/in") / "a.csv").write_text("1,2")
    spec = component(
        "cat ${{inputs.file}} > ${{outputs.file}}; echo ${{inputs.address}}; basename ${{inputs.file}}",
        {"file": "uri_file", "address": "uri_folder"},
        {"file": "uri_file"},
    )
    second = component("cat ${{inputs.file}}", {"file": "uri_file"})
    uri = {"uri": "azureml://datastores/d/paths/in/a.csv", "job_input_type": "uri_file"}
    direct = {"uri": "azureml://datastores/d/paths/in", "job_input_type": "uri_folder", "mode": "Direct"}
    to = {"file": {"uri": "azureml://datastores/d/paths/out/b.csv", "job_output_type": "uri_file", "mode": "Upload"}}
    jobs = {"a": node(spec, {"file": uri, "address": direct}, to), "b": node(second, {"file": out("a", "file")})}
    assert run(host, plane, pipeline(jobs)).error is None
    assert plane.log("a") == "azureml://datastores/d/paths/in\na.csv\n" and plane.log("b") == "1,2"
    assert plane.path("azureml://datastores/d/paths/out/b.csv").read_text() == "1,2"


@pytest.mark.parametrize("declared", ["uri_file", "uri_folder"])
def test_an_output_is_a_file_if_its_component_or_the_job_says_so(host: JobExecutor, plane: FolderPlane, declared: str):
    spec = component("echo x > ${{outputs.to}}", {}, {"to": declared})
    kind = {"uri_file": "uri_folder", "uri_folder": "uri_file"}[declared]
    where = {"uri": "azureml://datastores/d/paths/${{name}}/x.txt", "jobOutputType": kind}
    done = run(host, plane, pipeline({"a": node(spec, {}, {"to": "${{parent.outputs.all}}"})}, {}, {"all": where}))
    assert done.error is None and plane.path(done.outputs["all"]).read_text() == "x\n"


def test_a_mounted_output_shows_what_is_there_already(host: JobExecutor, plane: FolderPlane):
    spec = component(
        "ls ${{outputs.to}}; echo $RANDOM > ${{outputs.to}}/${{inputs.name}}", {"name": "string"}, {"to": "uri_folder"}
    )
    to = {
        "to": {"uri": "azureml://datastores/d/paths/shared", "mode": "ReadWriteMount", "job_output_type": "uri_folder"}
    }
    after = {**spec, "inputs": {**spec["inputs"], "after": {"type": "uri_folder"}}}
    jobs = {"a": node(spec, {"name": "one"}, to), "b": node(after, {"name": "two", "after": out("a", "to")}, to)}
    assert run(host, plane, pipeline(jobs)).error is None
    assert plane.log("b") == "one\n"
    assert plane.content("azureml://datastores/d/paths/shared").keys() == {"one", "two"}


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_failed_node(host: JobExecutor, plane: FolderPlane, goes_on: bool):
    long = component("sleep 20", {}, {}) if not goes_on else component("true", {}, {"to": "uri_folder"})
    jobs = {"bad": node(FAIL), "after": node(COPY, {"one": out("bad", "to")}), "beside": node(long)}
    began = time.monotonic()
    done = run(host, plane, pipeline(jobs, continue_on_step_failure=goes_on))
    assert done.state == "Failed" and done.error == "node 'bad' failed: exit code 3"
    nodes = plane.nodes()
    assert nodes["bad"].state == "Failed" and nodes["bad"].error == "exit code 3" and plane.log("bad") == "broken\n"
    assert "after" not in nodes
    if goes_on:
        assert nodes["beside"].state == "Completed"
    elif "beside" in nodes:  # stopped, or never started
        assert nodes["beside"].state == "Canceled" and time.monotonic() - began < 15


def test_what_a_failed_command_left_is_kept_if_mounted_not_if_to_be_uploaded(host: JobExecutor, plane: FolderPlane):
    spec = component(
        "echo x > ${{outputs.a}}/x; echo x > ${{outputs.b}}/x; exit 1", {}, {"a": "uri_folder", "b": "uri_folder"}
    )
    to = {"b": {"mode": "Upload", "job_output_type": "uri_folder"}}
    run(host, plane, pipeline({"n": node(spec, {}, to)}))
    outputs = plane.nodes()["n"].outputs
    assert plane.content(outputs["a"]) == {"x": "x\n"}
    assert not plane.path(outputs["b"]).exists()


def test_an_empty_output_fails_who_reads_it(host: JobExecutor, plane: FolderPlane):
    empty = component("mkdir ${{outputs.to}}/inner", {}, {"to": "uri_folder"})
    done = run(host, plane, pipeline({"a": node(empty), "b": node(COPY, {"one": out("a", "to")})}))
    assert plane.nodes()["a"].state == "Completed" and plane.nodes()["b"].state == "Failed"
    assert done.error and "node 'b' failed: input 'one': there is nothing at azureml://datastores/" in done.error


def test_an_output_with_a_link_is_refused(host: JobExecutor, plane: FolderPlane):
    spec = component("ln -s /etc/passwd ${{outputs.to}}/x", {}, {"to": "uri_folder"})
    done = run(host, plane, pipeline({"a": node(spec)}))
    assert done.error == "node 'a' failed: output 'to' holds a link or a special file (to/x)"


def test_a_limit_of_time(host: JobExecutor, plane: FolderPlane):
    done = run(host, plane, pipeline({"a": node(component("sleep 30"), limits={"timeout": "PT1S"})}))
    assert done.error == "node 'a' failed: did not end within 1 s, its limit"


def test_cancel(host: JobExecutor, plane: FolderPlane):
    host.submit("job", pipeline({"a": node(component("sleep 60")), "b": node(FAIL, {"after": out("a", "artifacts")})}))
    plane.wait_for_state("a", "Running")
    host.cancel("job")
    assert plane.wait("job", 20).state == "Canceled"
    assert plane.nodes()["a"].state == "Canceled" and "b" not in plane.nodes()
    host.cancel("job")  # it has ended: nothing happens
    assert plane.wait("job").states == ["Running", "Canceled"]


def test_nested_pipelines(host: JobExecutor, plane: FolderPlane):
    inner = {
        "type": "pipeline",
        "inputs": {"from": {"type": "uri_folder"}, "word": {"type": "string", "default": "w"}},
        "outputs": {"result": {"type": "uri_folder"}},
        "jobs": {
            "write": node(WRITE, {"text": "${{parent.inputs.word}}"}),
            "join": node(
                JOIN,
                {"one": "${{parent.inputs.from}}", "two": out("write", "to")},
                {"to": "${{parent.outputs.result}}"},
            ),
        },
    }
    outer = {
        "type": "pipeline",
        "inputs": {"from": {"type": "uri_folder"}},
        "outputs": {"result": {"type": "uri_folder"}},
        "jobs": {
            "deep": {
                **node(inner, {"from": "${{parent.inputs.from}}"}, {"result": "${{parent.outputs.result}}"}),
                "type": "pipeline",
            }
        },
    }
    jobs = {
        "start": node(WRITE, {"text": "s"}),
        "group": {
            **node(outer, {"from": out("start", "to")}, {"result": "${{parent.outputs.all}}"}),
            "type": "pipeline",
        },
        "last": node(COPY, {"one": out("group", "result")}),
    }
    where = "azureml://datastores/d/paths/nested"
    done = run(host, plane, pipeline(jobs, {}, {"all": {"uri": where, "jobOutputType": "uri_folder"}}))
    assert done.error is None and plane.content(where) == {"text": "sw"}
    nodes = plane.nodes()
    assert set(nodes) == {"start", "group", "group/deep", "group/deep/write", "group/deep/join", "last"}
    assert nodes["group"].states == ["Running", "Completed"] and plane.content(nodes["last"].outputs["to"]) == {
        "text": "sw+"
    }


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            pipeline({"a": node(COPY, {"one": out("b", "to")})}),
            "a: input 'one' is bound to node 'b', which does not exist",
        ),
        (
            pipeline({"a": node(COPY, {"one": out("b", "to")}), "b": node(COPY, {"one": out("a", "to")})}),
            "nodes wait for each other: ",
        ),
        (pipeline({"a": node(COPY)}), "a: input 'one' has no value"),
        (
            pipeline({"a": {"type": "automl"}}),
            "a: a node of type 'automl'; the emulator runs command, pipeline and sweep nodes",
        ),
        (pipeline({"a": node("/components/none")}), "a: component '/components/none' is not in the workspace"),
        (pipeline({"a": node(WRITE), "b": node(COPY, {"one": out("a", "no")})}), "input 'text' has no value"),
        (
            pipeline({"a": node(WRITE, {"text": "x"}), "b": node(COPY, {"one": out("a", "no")})}),
            "b: is bound to 'no' of a, which has no such output",
        ),
        (
            {"properties": {"jobType": "AutoML"}},
            "job job: type 'automl'; the emulator runs command, pipeline and sweep jobs",
        ),
    ],
)
def test_what_cannot_run_fails_at_once_and_says_why(host: JobExecutor, plane: FolderPlane, body, error: str):
    done = run(host, plane, body)
    assert done.state == "Failed" and done.error and error in done.error and not plane.children


def test_environments(start: Start, plane: FolderPlane):
    plane.environments |= {"conda": {"image": "x", "condaFile": "name: c"}, "built": {"build": {"contextUri": "u"}}}
    backend = HostBackend()
    executor = start(backend, images={"sklearn-1.5": "stand/in:1", "plain": "other:2"})
    named = "azureml://registries/azureml/environments/sklearn-1.5/labels/latest"
    specs = {
        name: {**component("true"), "environment": name}
        for name in ("conda", "built", "gone", named, "azureml:plain@latest")
    }
    errors = [
        run(executor, plane, pipeline({"a": node(spec)}), f"job{number}").error
        for number, spec in enumerate(specs.values())
    ]
    assert errors[0] == "node 'a' failed: a: environment conda has a conda file, which the emulator does not build"
    assert errors[1] and "a build context" in errors[1]
    assert errors[2] and "a: environment 'gone' is not in the workspace" in errors[2]
    assert errors[3:] == [None, None]
    assert [launch.image.reference for launch in backend.launches] == ["stand/in:1", "other:2"]


def test_close_ends_what_runs(start: Start, plane: FolderPlane):
    executor = start()
    executor.submit("job", pipeline({"a": node(component("sleep 60"))}))
    plane.wait_for_state("a", "Running")
    executor.close()
    assert plane.runs["job"].state == "Canceled"

"""Nodes in containers: AzureML's paths, what may be written, memory, cancel, and a shell that is not bash."""

from __future__ import annotations

import time

import pytest

from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.docker.client import connect
from tests.backends.azureml.emulator.jobs import component, node, out, pipeline
from tests.backends.azureml.emulator.plane import FolderPlane

pytestmark = pytest.mark.engine

SHOW = """exec 2>&1; pwd; echo ${{outputs.to}}; env | grep -E '^(AZUREML_(ARM|RUN|ROOT|EXPERIMENT_NAME)|MLFLOW_TR)' | sort
test -n "$BASH_VERSION" && echo bash
head -c 27 "$SSL_CERT_FILE"; echo
echo x > /usr/x && echo image is writable; echo x > here && echo x > ${{outputs.to}}/x"""
READ = "exec 2>&1; echo ${{inputs.one}}; echo y > ${{inputs.one}}/y || echo read only; cat ${{inputs.one}}/x"


def test_what_a_container_sees(engine: JobExecutor, plane: FolderPlane):
    jobs = {
        "a": node(component(SHOW, {}, {"to": "uri_folder"})),
        "b": node(component(READ, {"one": "uri_folder"}), {"one": out("a", "to")}),
        "c": node(
            component("python3 -c \"x = bytearray(400 << 20); x[::4096] = b'1' * len(x[::4096])\""),
            {},
            {},
            resources={"docker_args": "--memory 64m"},
        ),
    }
    engine.submit("job", pipeline(jobs, continue_on_step_failure=True))
    done = plane.wait("job")
    assert done.error and done.error.startswith("node 'c' failed: out of memory: ") and "64 MiB" in done.error
    seen = plane.log("a")
    run = next(child.id for child in plane.children.values() if child.name == "a")
    for line in (
        f"AZUREML_RUN_ID={run}",
        "AZUREML_ROOT_RUN_ID=job",
        "AZUREML_ARM_SUBSCRIPTION=s",
        "AZUREML_ARM_WORKSPACE_NAME=w",
        f"MLFLOW_TRACKING_TOKEN=token-of-{run}",
        "bash",
        "image is writable",
    ):
        assert line in seen.splitlines(), seen
    work, to = seen.splitlines()[:2]
    assert work.startswith("/mnt/azureml/cr/j/") and work.endswith("/exe/wd")
    assert to.endswith("/cap/data-capability/wd/to")
    read = plane.log("b").splitlines()
    assert read[0].endswith("/cap/data-capability/wd/INPUT_one") and read[-2:] == ["read only", "x"]
    assert not connect().containers(all=True, filters={"label": "io.intermodal.run=job"})


def test_cancel_ends_containers_at_once(engine: JobExecutor, plane: FolderPlane):
    engine.submit("job", pipeline({"a": node(component("sleep 300")), "b": node(component("trap '' TERM; sleep 300"))}))
    for name in "ab":
        plane.wait_for_state(name, "Running")
    began = time.monotonic()
    engine.cancel("job")
    assert plane.wait("job", 60).state == "Canceled" and time.monotonic() - began < 30
    assert not connect().containers(all=True, filters={"label": "io.intermodal.run=job"})

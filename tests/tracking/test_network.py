"""Network `tracking` in real containers: a step logs with MLflow's own client, and can reach nothing else."""

import json
import socket
import threading
from pathlib import Path

import docker
import pytest
from kfp import compiler, dsl

from tests.tracking.conftest import Lab, See

pytestmark = pytest.mark.engine


@dsl.component(base_image="intermodal/base:dev", packages_to_install=["mlflow-skinny"])
def log(ports: list) -> str:  # type: ignore[type-arg]
    import os
    import socket

    import mlflow

    mlflow.log_metric("loss", 0.25, step=3)
    mlflow.log_param("lr", 0.1)
    reached = []
    for host in ("127.0.0.1", "172.17.0.1", "1.1.1.1", *os.environ["HOSTS"].split()):
        for port in ports:
            try:
                socket.create_connection((host, port), timeout=2).close()
                reached.append(f"{host}:{port}")
            except OSError:
                pass
    return " ".join(reached) + "|" + os.environ["MLFLOW_TRACKING_URI"]


@dsl.container_component
def look():
    code = "import os; assert not [name for name in os.environ if name.startswith('MLFLOW_')]; print(os.listdir('/sys/class/net'))"
    return dsl.ContainerSpec(image="intermodal/base:dev", command=["python3", "-c", code])


def _listen(stop: threading.Event) -> int:
    """Listen on every address of this machine, as a service does that a step must not reach."""
    listener = socket.create_server(("0.0.0.0", 0))
    listener.settimeout(0.2)

    def accept() -> None:
        while not stop.is_set():
            try:
                listener.accept()[0].close()
            except TimeoutError:
                continue
        listener.close()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def _compiled(pipeline, folder: Path) -> str:
    path = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return str(path)


def test_a_step_logs_with_the_real_client_and_reaches_nothing_else(lab: Lab, see: See, tmp_path: Path):
    mine = socket.gethostbyname(socket.gethostname())

    @dsl.pipeline(name="logs")
    def logs(ports: list) -> str:  # type: ignore[type-arg]
        return log(ports=ports).set_env_variable("HOSTS", mine).output

    stop = threading.Event()
    ports = json.dumps([_listen(stop), int(lab.uri.rpartition(":")[2])])
    try:
        words = (_compiled(logs, tmp_path), "--backend", "docker", "--arg", f"ports={ports}")
        done = json.loads(lab.do("run", *words, "--json", "--network", "log=tracking"))
    finally:
        stop.set()
    assert done["parameters"]["Output"] == "|http://127.0.0.1:5000"
    lab.sync(done["run"])
    seen = see(done["run"])
    assert seen.statuses == {"": "FINISHED", "/log@1": "FINISHED"}
    logged = seen.runs["/log@1"].data
    assert logged.metrics == {"loss": 0.25} and logged.params["lr"] == "0.1"
    assert _containers(done["run"]) == []


def test_without_a_server_such_a_step_runs_without_one(lab: Lab, tmp_path: Path):
    @dsl.pipeline(name="looks")
    def looks():
        look()

    words = (_compiled(looks, tmp_path), "--backend", "docker", "--network", "tracking", "--json")
    for more in ({"INTERMODAL_TRACKING": "off"}, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}):
        done = json.loads(lab.do("run", *words, "--no-cache", **more))
        assert done["state"] == "SUCCEEDED"
        assert "['lo']" in lab.do("logs", done["run"])


def _containers(run: str) -> list[str]:
    client = docker.from_env()
    try:
        return [
            item.name
            for item in client.containers.list(
                all=True, filters={"label": f"io.intermodal.run={run}"}, ignore_removed=True
            )
        ]
    finally:
        client.close()

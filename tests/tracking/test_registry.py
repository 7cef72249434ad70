"""The registry beside a real server: a champion becomes one version, which MLflow's own tools load and serve."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import numpy as np
import onnx
import onnxruntime
import pytest
from kfp import compiler, dsl
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.errors import BadInput
from intermodal.results import read_run
from intermodal.tracking.find import find_mlflow_run, open_index
from intermodal.tracking.registry import DIGEST, Registered, Registry, register_run
from intermodal.tracking.registry_facts import champion_of, model_file, read_facts
from tests.conftest import Run
from tests.tracking.made import Made


class Outputs(NamedTuple):
    champion: dsl.Model
    benchmark: dsl.Artifact
    decision: dict


@dsl.container_component
def backbone(given: dsl.Input[dsl.Model], model: dsl.Output[dsl.Model]):
    command = ["sh", "-c", 'mkdir -p "$1" && cp "$0/backbone.json" "$1"', given.path, model.path]
    return dsl.ContainerSpec(image="backbone", command=command)


@dsl.container_component
def converter(given: dsl.Input[dsl.Model], model: dsl.Input[dsl.Model], bundle: dsl.Output[dsl.Model]):
    command = ["sh", "-c", 'test -f "$2/backbone.json" && cp -r "$0/bundle" "$1"', given.path, bundle.path, model.path]
    return dsl.ContainerSpec(image="converter", command=command)


@dsl.container_component
def selector(
    given: dsl.Input[dsl.Model],
    bundle: dsl.Input[dsl.Model],
    champion: dsl.Output[dsl.Model],
    benchmark: dsl.Output[dsl.Artifact],
    decision: dsl.OutputPath(dict),
    code: int = 0,
):
    script = """cp -rL "$0" "$1"; cp "$4/benchmark.json" "$2"; echo '{"why": "it | is fastest"}' > "$3"; exit $5"""
    command = ["sh", "-c", script, bundle.path, champion.path, benchmark.path, decision, given.path]
    return dsl.ContainerSpec(image="selector", command=command, args=[code])


@dsl.pipeline(name="factory")
def factory(given: dsl.Input[dsl.Model], code: int = 0) -> Outputs:
    start = backbone(given=given)
    converted = converter(given=given, model=start.outputs["model"])
    chosen = selector(given=given, bundle=converted.outputs["bundle"], code=code)
    return Outputs(chosen.outputs["champion"], chosen.outputs["benchmark"], chosen.outputs["decision"])


def write_model(path: Path, weight: float) -> None:
    """Write a token classifier of three labels: the logits of a token are its id times the weight, plus 0, 1, 2."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "m"], ["xm"]),
        helper.make_node("Unsqueeze", ["xm", "last"], ["column"]),
        helper.make_node("Mul", ["column", "weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
    ]
    constants = {
        "last": np.array([2], dtype=np.int64),
        "weight": np.array([weight], dtype=np.float32),
        "bias": np.arange(3, dtype=np.float32),
    }
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "tokens", 3])
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tokens", [ids, mask], [logits], initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))


def write_given(folder: Path, weight: float = 0.5) -> Path:
    """Write what the pipeline is given: a bundle as the selector hands it on, the benchmark, the backbone."""
    bundle = folder / "bundle"
    bundle.mkdir(parents=True)
    write_model(bundle / "model.int8.onnx", weight)
    digest = hashlib.sha256((bundle / "model.int8.onnx").read_bytes()).hexdigest()
    (bundle / "labels.json").write_text('["O", "B-A", "I-A"]')
    manifest = {
        "backbone": "tiny",
        "revision": "r1",
        "champion": "int8",
        "variants": {"int8": {"file": "model.int8.onnx", "sha256": digest, "bytes": 1}},
        "entity_types": ["A"],
        "window": {"cls_id": 101, "sep_id": 102, "pad_id": 0},
        "hyperparameters": {"learning_rate": 0.00145},
        "dataset_sha256": "d" * 64,
        "gate": {"allowed": {"int8_macro_f1": 0.005}, "measured": {"int8": {"agreement": 0.998}}},
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    scores = {
        "test": {"macro_f1": 0.9, "interval": [0.85, 0.93], "micro_f1": 0.91, "per_label": {"A": {"precision": 0.8}}}
    }
    entry = {"bundle_sha256": digest, "scores": scores, "latency_ms": {"p50": 12.5, "p99": None}}
    (folder / "benchmark.json").write_text(json.dumps({"candidates": [entry], "machine": {"cpu": "a | b", "cores": 2}}))
    (folder / "backbone.json").write_text('{"name": "tiny", "license": "Apache-2.0"}')
    return folder


class Lab:
    """A state folder with runs of the factory."""

    def __init__(self, run: Run, state: Path, server: str, made: Made) -> None:
        self._run, self.state, self.server, self.made = run, state, server, made
        self.name = f"model-{made.pipeline}"

    def factory(self, given: Path, **arguments: Any) -> str:
        return self._run(factory, given=str(given), **arguments).result.run_id

    def register(self, run: str, state: Path | None = None) -> Registered:
        state = state or self.state
        database = Database(state / "intermodal.db")
        try:
            with open_index(self.server, state) as place:
                return register_run(database, StateFolder.at(state), place, run, name=self.name)
        finally:
            database.close()

    def start(self, run: str, state: Path) -> subprocess.Popen[str]:
        words = [
            sys.executable,
            "-m",
            "intermodal",
            "register",
            run,
            "--name",
            self.name,
            "--json",
            "--state",
            str(state),
        ]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": self.server}
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def versions(self) -> list[Any]:
        return list(self.made.client.search_model_versions(f"name = '{self.name}'"))


@pytest.fixture
def lab(run: Run, tmp_path: Path, server: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)  # what a user of mlflow.onnx.load_model sets
    return Lab(run, tmp_path / "state", server, Made(client))


def test_a_champion_is_a_version_that_mlflow_loads_and_serves(lab: Lab, tmp_path: Path) -> None:
    import mlflow.onnx
    import mlflow.pyfunc

    given = write_given(tmp_path / "given")
    run = lab.factory(given)
    done = lab.register(run)
    assert (done.name, done.version, done.run, done.new) == (lab.name, 1, run, True)

    original = given / "bundle/model.int8.onnx"
    assert mlflow.onnx.load_model(done.uri).SerializeToString() == onnx.load(str(original)).SerializeToString()
    folder = Path(mlflow.artifacts.download_artifacts(done.uri))
    assert (folder / "model.onnx").read_bytes() == original.read_bytes()
    assert (folder / "bundle/labels.json").is_file() and not (folder / "bundle/model.int8.onnx").exists()

    model = mlflow.pyfunc.load_model(done.uri)
    example = model.input_example
    assert [spec.name for spec in model.metadata.get_input_schema()] == ["input_ids", "attention_mask"]
    assert [spec.shape for spec in model.metadata.get_output_schema()] == [(-1, -1, 3)]
    assert example["input_ids"][0][0] == 101
    feed = {name: np.asarray(value, dtype=np.int64) for name, value in example.items()}
    expected = onnxruntime.InferenceSession(str(original)).run(None, feed)[0]
    np.testing.assert_array_equal(model.predict(feed)["logits"], expected)
    body = {"inputs": {name: value.tolist() for name, value in feed.items()}}
    with served(done.uri) as address:
        request = Request(f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            predictions = json.load(answer)["predictions"]
    np.testing.assert_allclose(predictions["logits"], expected)


@contextmanager
def served(uri: str) -> Iterator[str]:
    """The address of `mlflow models serve`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["models", "serve", "--model-uri", uri, "--env-manager", "local", "--port", str(port), "--workers", "1"]
    activated = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # it looks for uvicorn there
    child = subprocess.Popen([sys.executable, "-m", "mlflow", *words], env=activated, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except OSError:
                assert child.poll() is None and time.monotonic() < deadline, "it does not serve"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(30)


def test_a_version_tells_its_lineage_and_its_card_says_what_is_on_record(lab: Lab, tmp_path: Path) -> None:
    run = lab.factory(write_given(tmp_path / "given"))
    lab.factory(write_given(tmp_path / "same"))  # all of it cached: the lineage must not care
    done = lab.register(run)
    [version] = lab.versions()
    assert version.tags[DIGEST] == f"sha256:{done.digest}" and version.run_id == done.mlflow_run
    assert version.tags["intermodal.run"] == run and version.tags["intermodal.dataset_sha256"] == "d" * 64
    assert set(json.loads(version.tags["intermodal.steps"])) == {"backbone", "converter", "selector"}
    assert version.tags["intermodal.data.given"].startswith("sha256:")
    card = version.description
    file = hashlib.sha256((tmp_path / "given/bundle/model.int8.onnx").read_bytes()).hexdigest()
    for words in (
        f"| model.int8.onnx | `sha256:{file}",
        "| licence of the backbone | `Apache-2.0` |",
        f"| data set | `sha256:{'d' * 64}` |",
        "| learning_rate | 0.00145 |",
        "| test | 0.9 | [0.85, 0.93] | 0.91 |",
        "| latency p50, ms | 12.5 |",
        "| cpu | `a ¦ b` |",
        "| agreement | 0.998 |",
        "Allowed: int8\\_macro\\_f1 0.005.",
        "Chosen because: it \\| is fastest.",
        "| `selector` | succeeded |",
        "| commit | `not on record` |",
    ):
        assert words in card, card
    with_card = lab.made.client.list_artifacts(done.mlflow_run, f"models/{done.digest[:16]}")
    assert any(item.path.endswith("model_card.md") for item in with_card)


def test_the_same_bytes_are_one_version_whoever_made_them(lab: Lab, tmp_path: Path) -> None:
    first = lab.register(lab.factory(write_given(tmp_path / "given")))
    again = lab.register(first.run)
    other = lab.register(lab.factory(write_given(tmp_path / "elsewhere")))
    assert (again.version, again.new) == (other.version, other.new) == (1, False)
    assert other.run != first.run
    changed = lab.register(lab.factory(write_given(tmp_path / "changed", weight=0.25)))
    assert (changed.version, changed.new) == (2, True)
    assert len(lab.versions()) == 2


def test_two_machines_that_register_the_same_bytes_at_once_end_with_one_version(lab: Lab, tmp_path: Path) -> None:
    elsewhere = lab.factory(write_given(tmp_path / "elsewhere"))
    lab.state.rename(tmp_path / "other")
    run = lab.factory(write_given(tmp_path / "given"))
    children = [lab.start(run, lab.state), lab.start(elsewhere, tmp_path / "other")]
    answers = [child.communicate(timeout=240) for child in children]
    assert [child.returncode for child in children] == [0, 0], answers
    given = [json.loads(out) for out, _ in answers]
    [version] = lab.versions()
    assert {item["version"] for item in given} == {int(version.version)}
    assert sum(item["new"] for item in given) == 1

    # The moment that cannot be forced: both looked before either had made a version.
    database = Database(lab.state / "intermodal.db")
    record = read_run(database, StateFolder.at(lab.state), run)
    champion = champion_of(record, "champion")
    facts = read_facts(database, StateFolder.at(lab.state), record, champion)
    database.close()
    late = Registry(lab.server).register(lab.name, model_file(champion)[0], facts, given[0]["mlflow_run"])
    assert late == (int(version.version), False)
    assert [int(item.version) for item in lab.versions()] == [int(version.version)]


def test_what_is_no_champion_is_refused_and_registers_nothing(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="only a green run"):
        lab.register(lab.factory(write_given(tmp_path / "fails", weight=0.1), code=3))
    given = write_given(tmp_path / "nonsense", weight=0.3)
    (given / "bundle/model.int8.onnx").write_bytes(b"no model")
    with pytest.raises(BadInput, match="no valid ONNX model"):
        lab.register(lab.factory(given))

    run = lab.factory(write_given(tmp_path / "damaged", weight=0.4))
    [file] = (lab.state / "runs" / run / "outputs").glob("champion/*.onnx")
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(BadInput, match="damaged"):
        lab.register(run)
    assert lab.versions() == []


def test_a_run_that_is_tracked_is_found_by_what_it_made_and_registered_at_its_end(lab: Lab, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(f'[tool.intermodal.tracking]\nregister_as = "{lab.name}"\n')
    compiler.Compiler().compile(factory, str(project / "factory.yaml"))
    words = ["factory.yaml", "--backend", "host", "--state", str(lab.state), "--track", "--json"]
    given = write_given(tmp_path / "given", weight=0.125)
    environment = {**os.environ, "INTERMODAL_TRACKING": "on"}
    line = [sys.executable, "-m", "intermodal", "run", *words, "--arg", f"given={given}"]
    done = subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    [version] = lab.versions()
    assert f"models:/{lab.name}/1  registered" in done.stderr and version.tags["intermodal.run"] == run

    asked = {"tracking_uri": lab.server, "state_folder": lab.state}
    maker = find_mlflow_run(produced=version.tags[DIGEST], run=run, component="selector", **asked)
    assert maker.task == "selector" and maker.fingerprint == json.loads(version.tags["intermodal.steps"])["selector"]
    assert find_mlflow_run(maker.fingerprint, run=run, **asked).id == maker.id
    assert find_mlflow_run(run=run, kind="pipeline", **asked).id == version.run_id

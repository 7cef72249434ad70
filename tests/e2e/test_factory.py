"""The whole factory through the real command, on a real engine, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import docker
import pytest

from intermodal.backends.azureml.compile import compile_pipeline
from intermodal.backends.azureml.report import GAPS
from intermodal.backends.azureml.requests import job_inputs
from intermodal.backends.azureml.settings import load_azureml_settings
from intermodal.sources import load_source, read_values
from pipelines.experiment import DEFAULT, read_yaml
from tests.backends.azureml.emulator.proof import emulated, kept, over_the_wire
from tests.support.memo import known_images

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "pipelines" / "configs" / "smoke.yaml"

pytestmark = pytest.mark.engine


def command(state: Path, *arguments: str) -> list[str]:
    verb, *rest = arguments
    return [sys.executable, "-m", "intermodal", verb, "--state", str(state), *rest]


def intermodal(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(state, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=900)


def shown(state: Path) -> dict:
    done = intermodal(state, "show", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def left_over(run: str) -> list:
    client = docker.from_env()
    try:
        return client.containers.list(all=True, filters={"label": f"io.intermodal.run={run}"}, ignore_removed=True)
    finally:
        client.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("e2e") / "state"
    with known_images(state):
        yield state


def test_the_factory_runs_from_documents_to_a_champion(state: Path):
    done = intermodal(state, "run", "pipelines/ner.py", "--config", str(SMOKE), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    champion = Path(result["artifacts"]["champion"])
    manifest = json.loads((champion / "manifest.json").read_text())
    assert manifest["backbone"] == "tiny" and manifest["champion"] in manifest["variants"]
    assert result["parameters"]["decision"]["champion"]["variant"] == manifest["champion"]
    assert "tiny" in Path(result["artifacts"]["summary"]).read_text()
    record = shown(state)
    assert record["state"] == "SUCCEEDED"
    states = {task["path"]: task["state"] for task in record["tasks"]}
    assert states.pop("for-loop-1") == "CACHED"  # there was nothing to download
    assert states.pop("for-loop-2/0/for-loop-3") == "CACHED"  # and no search that is shared
    assert states.pop("for-loop-4") == "CACHED"  # nor a refit
    assert set(states.values()) == {"SUCCEEDED"}
    assert {path.split("/")[-1] for path in states} >= {
        "dataset", "gather", "backbone", "hpo", "trainer", "converter", "baseline", "benchmarker", "selector",
    }  # fmt: skip
    assert record["configuration"]["backbones"] == ["tiny"] and len(record["configuration_digest"]) == 64
    assert left_over(result["run"]) == []
    assert "champion" in intermodal(state, "logs", "selector").stdout


TIMED = {
    "hpo": {"study", "trials_table", "plots"},
    "baseline": {"measured"},
    "benchmarker": {"benchmark", "report"},
    "selector": {"champion", "decision", "report", "summary", "variant", "conversion"},
}
"""Outputs that tell how long something took, which no two runs agree on; and metadata that does (by a part of its name)."""
TIMES = ("seconds", "_ms", "per_second", "memory", "conclusive")


def test_the_factory_compiled_for_azureml_makes_the_same_bytes(state: Path, tmp_path: Path):
    source = load_source(ROOT / "pipelines/ner.py", None)
    inputs, _ = job_inputs(source, read_values(SMOKE, []), from_file=True)
    compiled = compile_pipeline(source.pipeline, inputs, load_azureml_settings(source.project, {}), accept=GAPS)
    ran = over_the_wire()(compiled, tmp_path)
    job = emulated(compiled, ran)
    assert ran.tags["selector"] == {
        "kfp.task": "selector",
        "kfp.state": "SUCCEEDED",
    }  # the container reached run history
    here = kept(state, shown(state)["id"])
    assert {path.split("/")[-1] for path in job} == {
        "dataset", "gather", "backbone", "hpo", "trainer", "converter", "baseline", "benchmarker", "selector",
    }  # fmt: skip
    for path, task in job.items():
        assert timeless(path, task) == timeless(path, here[path])


def timeless(path: str, task: dict) -> dict:
    timed = TIMED.get(path.split("/")[-1], set())
    artifacts = task["outputs"]["artifacts"]
    plain = {
        name: [
            {**item, "metadata": {k: v for k, v in item["metadata"].items() if not any(word in k for word in TIMES)}}
            for item in items
        ]
        for name, items in artifacts.items()
        if name not in timed
    }
    parameters = {name: value for name, value in task["outputs"]["parameters"].items() if name not in timed}
    return {"state": task["state"], "names": sorted(artifacts), "parameters": parameters, "artifacts": plain}


def test_the_champion_finds_entities_with_its_own_example(state: Path):
    champion = Path(state / "runs" / shown(state)["id"] / "outputs" / "champion")
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, str(champion / "example.py"), "Anna Miller"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_a_second_run_is_all_cached_and_takes_seconds(state: Path):
    started = time.monotonic()
    done = intermodal(state, "run", "pipelines/ner.py", "--config", str(SMOKE))
    assert done.returncode == 0, done.stderr
    assert "all of it cached" in done.stdout
    assert time.monotonic() - started < 60
    record = shown(state)
    assert {task["state"] for task in record["tasks"]} <= {"CACHED", "SUCCEEDED"}
    assert record["attempts"] == []


def test_a_changed_setting_runs_what_depends_on_it_and_nothing_else(state: Path):
    done = intermodal(
        state, "run", "pipelines/ner.py", "--config", str(SMOKE), "--arg", "selection.tolerance=0.5", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert [attempt["path"] for attempt in shown(state)["attempts"]] == ["selector"]


def test_a_refit_learns_from_all_documents_once_the_champion_is_chosen(state: Path):
    done = intermodal(state, "run", "pipelines/ner.py", "--config", str(SMOKE), "--arg", "refit=true", "--json")
    assert done.returncode == 0, done.stderr
    record = shown(state)
    loop = {attempt["path"].rpartition("/")[0] for attempt in record["attempts"]}
    assert len(loop) == 1, "only the refit runs"
    assert {attempt["path"].split("/")[-1] for attempt in record["attempts"]} == {"trainer-2", "converter-2", "keep"}
    artifacts = json.loads(done.stdout)["artifacts"]
    chosen, refitted = (
        json.loads((Path(artifacts[name]) / "manifest.json").read_text()) for name in ("champion", "refitted")
    )
    assert (refitted["champion"], refitted["backbone"]) == (chosen["champion"], chosen["backbone"])
    assert refitted["training"]["all_data"] and refitted["training"]["epochs"] == chosen["best_epoch"]
    assert refitted["validation"]["learned_from"] is True and "learned_from" not in chosen["validation"]


def test_the_compiled_pipeline_runs_as_the_source_does(state: Path, tmp_path: Path):
    compiled = tmp_path / "ner.yaml"
    assert intermodal(state, "compile", "pipelines/ner.py", "-o", str(compiled)).returncode == 0
    arguments = {"backbones": '["tiny"]', "size": "tiny", "trials": "1", "cpus": "1"}
    values = read_yaml(DEFAULT)["training"] | {"epochs": 1}
    training = json.dumps(values)
    arguments |= {"training": training, "search_training": training}
    given = [word for name, value in arguments.items() for word in ("--arg", f"{name}={value}")]
    given += ["--arg", 'conversion={"builds": ["dynamo-18-none-fp32", "dynamo-18-none-int8"]}']
    given += ["--arg", 'gate={"fp32_logits": 1e-3, "int8_agreement": 0.5, "int8_macro_f1": 1.0}']
    done = intermodal(
        state,
        "run",
        str(compiled),
        *given,
        "--arg",
        'benchmark={"rounds": 2, "requests": 10, "warmup": 2, "cold_starts": 1}',
    )
    assert done.returncode == 0, done.stderr
    assert "all of it cached" in done.stdout, done.stderr


def test_a_reader_that_goes_away_changes_nothing(state: Path):
    """`intermodal run ... 2>&1 | head -1` must not end the run or lose its record."""
    arguments = ("run", "pipelines/ner.py", "--config", str(SMOKE), "--arg", "selection.tolerance=0.25")
    child = subprocess.Popen(
        command(state, *arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    child.stderr.readline()
    child.stderr.close()
    assert child.wait(timeout=300) == 0
    assert shown(state)["state"] == "SUCCEEDED"


ANNA = '{"text": "Anna", "annotations": [[0, 4, "P"]]}\n'
NAMES = {"train": "Anna", "dev": "Bert", "test": "Carl"}
BAD_DATA: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "a broken line": ({"train.jsonl": ANNA + "{broken\n"}, (), "train.jsonl: line 2: is not JSON"),
    "a label not in the schema": (
        {f"{split}.jsonl": ANNA.replace("Anna", name) for split, name in NAMES.items()},
        ("--arg", 'entity_types=["PLACE"]'),
        "label 'P' is not in the schema",
    ),
    "an empty validation split": ({"train.jsonl": ANNA, "dev.jsonl": "\n"}, (), "dev.jsonl: is empty"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_fails_its_step_with_the_place_and_leaves_no_result(state: Path, tmp_path: Path, case: str):
    files, more, words = BAD_DATA[case]
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    done = intermodal(state, "run", "pipelines/ner.py", "--config", str(SMOKE), "--arg", f"data={tmp_path}", *more)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    record = shown(state)
    tasks = {task["path"]: task for task in record["tasks"]}
    assert (tasks["dataset"]["state"], tasks["dataset"]["failure_class"]) == ("FAILED", "user_code")
    assert tasks["selector"]["state"] == "SKIPPED"
    assert "champion" not in record["outputs"]["artifacts"]


def test_a_search_that_was_stopped_goes_on_where_it_stood(state: Path):
    """Ctrl-C in the second trial; the next run's two workers find the study on its volume, and its first trial done."""
    arguments = ("run", "pipelines/ner.py", "--config", str(SMOKE), "--plain", "--arg", "search.trials=3")
    arguments += ("--arg", "search.epochs=25", "--arg", "search.pruner=none", "--arg", "training.patience=0")
    child = subprocess.Popen(command(state, *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    seen = list(_until(child.stderr, "trial 1: "))
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=120)
    assert child.returncode == 130
    assert any("trial 0: macro-F1" in line for line in seen)
    done = intermodal(state, *arguments, "--arg", "workers=2")
    assert done.returncode == 0, done.stderr
    ran = dict(re.findall(r"worker ([01]): (\d+) trials; the study's budget is spent", done.stderr))
    assert sorted(ran) == ["0", "1"] and sum(map(int, ran.values())) == 2
    assert "3 of 3 trials are done" in done.stderr
    assert "trial 0:" not in done.stderr
    studies = list((state / "volumes" / "intermodal-studies").glob("*/journal.log"))
    assert studies and all(study.stat().st_size > 0 for study in studies)


def _until(lines: Iterable[str], words: str) -> Iterator[str]:
    for line in lines:
        yield line
        if words in line:
            return


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk (a container as root can)")
def test_no_space_left_is_one_line_and_nothing_is_taken_for_a_result(small_disk: Path):
    done = intermodal(small_disk / "state", "run", "pipelines/ner.py", "--config", str(SMOKE))
    assert done.returncode in (1, 3)
    assert "no space left" in done.stderr or "disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    record = shown(small_disk / "state")
    assert record["state"] in ("FAILED", "INTERRUPTED")
    assert "champion" not in (record["outputs"] or {"artifacts": {}})["artifacts"]
    assert {task["state"] for task in record["tasks"] if task["path"].endswith(("trainer", "selector"))} != {
        "SUCCEEDED"
    }


def test_a_step_killed_for_memory_says_so(state: Path, tmp_path: Path):
    pipeline = tmp_path / "hungry.py"
    pipeline.write_text(
        "from kfp import dsl\n\n\n@dsl.container_component\ndef hungry():\n"
        "    return dsl.ContainerSpec(image='intermodal/base:dev', command=['python3', '-c', 'x = bytearray(1 << 30)'])\n\n\n"
        "@dsl.pipeline(name='hungry')\ndef pipeline():\n    hungry().set_memory_limit('64Mi')\n"
    )
    done = intermodal(state, "run", str(pipeline))
    assert done.returncode == 1
    assert "oom:" in done.stderr and "64" in done.stderr


def test_ctrl_c_stops_and_removes_the_containers_within_seconds(state: Path, tmp_path: Path):
    pipeline = tmp_path / "long.py"
    pipeline.write_text(
        "from kfp import dsl\n\n\n@dsl.container_component\ndef long(n: int):\n"
        "    return dsl.ContainerSpec(image='intermodal/base:dev', command=['sleep', '600'], args=[])\n\n\n"
        "@dsl.pipeline(name='long')\ndef pipeline():\n    with dsl.ParallelFor([1, 2, 3]) as n:\n        long(n=n)\n"
    )
    child = subprocess.Popen(command(state, "run", str(pipeline)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    run, running = "", 0
    for line in child.stderr:
        run = run or line.split()[-1]
        running += "RUNNING" in line
        if running >= 3:
            break
    time.sleep(2)
    assert len(left_over(run)) == 3
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert time.monotonic() - started < 20
    assert left_over(run) == []
    assert shown(state)["state"] == "CANCELLED"


def test_a_missing_image_is_named_before_anything_starts(state: Path, tmp_path: Path):
    pipeline = tmp_path / "missing.py"
    pipeline.write_text(
        "from kfp import dsl\n\n\n@dsl.container_component\ndef gone():\n"
        "    return dsl.ContainerSpec(image='intermodal/no-such-step:dev', command=['true'])\n\n\n"
        "@dsl.pipeline(name='missing')\ndef pipeline():\n    gone()\n"
    )
    done = intermodal(state, "run", str(pipeline))
    assert done.returncode == 3
    assert "intermodal/no-such-step:dev" in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_backbone_and_a_typo_start_nothing(state: Path):
    before = shown(state)["id"]
    for argument, word in (
        ("backbones=[minlm]", "minilm"),
        ("serach.trials=3", "search"),
        ('search_space={"dropout": {"type": "unifrom", "min": 0, "max": 0.1}}', "did you mean 'uniform'?"),
        ("data=/no/such", "/no/such"),
    ):
        done = intermodal(state, "run", "pipelines/ner.py", "--config", str(SMOKE), "--arg", argument)
        assert done.returncode == 2
        assert word in done.stderr and "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2
    assert shown(state)["id"] == before


def test_no_engine_is_one_line_and_a_way_out(state: Path):
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    done = subprocess.run(
        command(state, "run", "pipelines/ner.py", "--config", str(SMOKE)),
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 3
    assert "BACKEND=process" in done.stderr and "Traceback" not in done.stderr


def test_the_same_factory_runs_without_containers(tmp_path: Path, state: Path):
    """The process backend: the same steps in each image's locked environment."""
    own = tmp_path / "state"
    own.mkdir()
    if (ROOT / ".intermodal" / "wheels").is_dir():  # the wheels that the images were built from
        (own / "wheels").symlink_to(ROOT / ".intermodal" / "wheels")
    done = intermodal(own, "run", "pipelines/ner.py", "--config", str(SMOKE), "--backend", "process", "--json")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((Path(json.loads(done.stdout)["artifacts"]["champion"]) / "manifest.json").read_text())
    assert manifest["backbone"] == "tiny"
    assert "without containers a step reaches the network" in done.stderr

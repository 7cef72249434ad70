"""One training in two processes, on the CPU: the path of several GPUs, with gloo in the place of NCCL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.components.trainer.test_step import LEARNS, folder_bytes, refused, train

pytestmark = pytest.mark.engine

KILL_THE_SECOND = """
import os, pathlib
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if b"RANK=1" in (folder / "environ").read_bytes().split(bytes(1)):
            os.kill(int(folder.name), 9)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def facts(run_script, few_documents, tiny_backbone):
    """What each of two processes has to say of the same steps in two processes and in one."""
    probe = Path(__file__).parent / "probe_processes.py"
    completed = run_script("trainer", probe, [], {few_documents: "/dataset", tiny_backbone: "/backbone"}).ok()
    line = next(line for line in completed.stdout.splitlines() if line.startswith("FACTS "))
    return json.loads(line.removeprefix("FACTS "))


def test_two_processes_take_the_step_of_two_batches(facts):
    """Three batches in two steps: in the last one the second process has none. A weight without a gradient stays without."""
    for found in facts:
        together, alone = found["loss"]
        assert together == pytest.approx(alone, rel=1e-6)
        assert found["difference"] < 1e-4 * found["largest"]
        assert found["parameters"][0] == found["parameters"][1]


def test_each_process_hides_tokens_of_its_own_anew_in_each_step(facts):
    shown = [json.dumps(ids) for found in facts for ids in found["shown"]]
    assert [len(found["shown"]) for found in facts] == [2, 2], "each has half of the four batches"
    assert len(set(shown)) == 4


def test_a_training_of_two_processes_goes_on_after_one_is_killed_and_ends_with_the_same_bytes(
    step_engine, run_step, few_documents, tiny_backbone, tmp_path
):
    """All documents are learned from, so the last epoch is kept: the weights show every step on either side of the kill."""
    training = {"epochs": 12, "all_data": True}
    folders = {name: tmp_path / name for name in ("whole", "killed", "resumed", "state")}
    for folder in folders.values():
        folder.mkdir()
    two = ["--processes", "2"]
    whole = train(run_step, folders["whole"], few_documents, tiny_backbone, training, more=two).ok()
    assert whole.stdout.count("epoch 1/") == 1, "one of them speaks"
    model = folder_bytes(folders["whole"] / "model")
    assert set(model) == {"config.json", "model.safetensors", "tokenizer.json", "ner.json", "history.json"}
    assert json.loads(model["ner.json"])["processes"] == 2

    argv = ["--dataset", "/dataset", "--backbone", "/backbone", "--model", "/out/model", "--state", "/state", *two]
    argv += ["--checkpoint-seconds", "0.2", "--training", json.dumps({"max_tokens": 64, "stride": 16} | training)]
    argv += ["--hyperparameters", json.dumps(LEARNS)]
    mounts = {few_documents: "/dataset", tiny_backbone: "/backbone", folders["state"]: "/state"}
    container = step_engine.start("trainer", argv, {**mounts, folders["killed"]: "/out"})
    for line in container.logs(stream=True, follow=True):
        if b"epoch 3/" in line:
            container.exec_run(["python", "-c", KILL_THE_SECOND])
    killed = step_engine.finish(container, 60)
    assert (killed.code, killed.stderr) == (137, "error: process 1 of the training was ended by SIGKILL\n")
    assert list(folders["state"].glob("trainings/*/checkpoint.pt"))

    resumed = run_step("trainer", argv, {**mounts, folders["resumed"]: "/out"}).ok()
    assert "going on after" in resumed.stdout and "epoch 1/" not in resumed.stdout
    assert folder_bytes(folders["resumed"] / "model") == model
    assert not list(folders["state"].glob("trainings/*/*"))


def test_what_all_processes_find_wrong_is_said_once(run_step, few_documents, tiny_backbone, tmp_path):
    bad = {"learning_rate": 1e30, "batch_size": 2}
    completed = train(run_step, tmp_path, few_documents, tiny_backbone, {}, bad, more=["--processes", "2"])
    refused(completed, "diverged", "1e+30", "\nhint: ")
    assert len(completed.stderr.splitlines()) == 2
    assert not (tmp_path / "model").exists()

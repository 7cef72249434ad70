"""The finder beside a real server: exactly one run, or an error that says what came near and in what it differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import intermodal
from intermodal.errors import BadInput, EnvironmentProblem
from intermodal.jobs import FoundRun, NotOneRun, find_mlflow_run
from intermodal.spec.document import sha256_text
from intermodal.tracking.find import find_mlflow_runs, open_index
from intermodal.tracking.find_lineage import lineage, lines, outputs_of
from intermodal.tracking.names import run_name
from tests.tracking.made import Made

LONG_AGO = 1_600_000_000_000


class Finds:
    """Look-ups of one pipeline's runs with one state folder."""

    def __init__(self, server: str, state: Path, made: Made) -> None:
        self.server, self.state, self.made = server, state, made

    def __call__(self, *args: Any, **asked: Any) -> FoundRun:
        return find_mlflow_run(*args, tracking_uri=self.server, state_folder=self.state, **asked)

    def fails(self, *args: Any, **asked: Any) -> NotOneRun:
        with pytest.raises(NotOneRun) as raised:
            self(*args, **asked)
        return raised.value


@pytest.fixture
def find(server: str, tmp_path: Path, made: Made) -> Finds:
    return Finds(server, tmp_path / "state", made)


def test_a_run_is_found_by_its_identity_the_start_of_it_or_its_name(find: Finds, made: Made) -> None:
    word = f"one {made.pipeline}"
    run = made.run(word, params={"lr": 0.1}, metrics={"f1": 0.9}, inputs=("d",), outputs=("m",), run="r", task="train")
    made.run(f"other {made.pipeline}")
    identity = sha256_text(word)
    found = find(identity)
    assert (found.id, found.run, found.task, found.component, found.state) == (run, "r", "train", "train", "SUCCEEDED")
    assert (found.params, found.metrics) == ({"lr": "0.1"}, {"f1": 0.9})
    assert found.outputs == {"m": ["sha256:" + sha256_text("m")]}
    assert find(identity[:12]).id == find(run_name("train", identity)).id == run
    assert find(identity, refresh=False).id == run
    assert intermodal.find_mlflow_run is find_mlflow_run


def test_it_never_takes_the_newest_of_several(find: Finds, made: Made) -> None:
    word = f"twice {made.pipeline}"
    first = made.run(word, params={"lr": 0.1, "seed": 1}, start=LONG_AGO)
    second = made.run(word, params={"lr": 0.2, "seed": 1})
    error = find.fails(sha256_text(word))
    assert {near.id: near.differs["parameter lr"] for near in error.near} == {first: "0.1", second: "0.2"}
    assert "parameter seed" not in error.near[0].differs
    assert "2 runs" in error.message and first in error.message and second in error.message
    assert find(sha256_text(word), params={"lr": 0.2}).id == second


def test_what_is_not_there_is_an_error_with_the_nearest_and_their_differences(find: Finds, made: Made) -> None:
    asked = {"pipeline": made.pipeline, "component": "train"}
    far = made.run("far", params={"lr": 0.3, "bs": 8}, metrics={"f1": 0.2})
    near = made.run("near", params={"lr": 0.1, "bs": 8}, metrics={"f1": 0.95})
    newest = made.run("newest", params={"lr": 0.4, "bs": 8}, metrics={"f1": 0.3})
    error = find.fails(**asked, params={"lr": 0.1, "bs": 4}, metrics=["f1 >= 0.9"])
    assert [item.id for item in error.near][:3] == [near, newest, far]  # then those of other pipelines
    assert error.near[0].differs == {"bs": "8"}
    assert error.near[1].differs == {"lr": "0.4", "bs": "8", "f1": "0.3, not >= 0.9"}
    assert error.exit_code == 1

    typo = sha256_text("near")[:10] + "0" * 6
    assert near in {item.id for item in find.fails(typo, pipeline=made.pipeline).near}
    assert find.fails(sha256_text("no such thing anywhere")).near == ()


def test_a_run_that_took_another_ones_result_is_not_the_one_that_did_the_work(find: Finds, made: Made) -> None:
    word = f"cached {made.pipeline}"
    worked = made.run(word, outputs=("model " + word,))
    took = made.run(word, outputs=("model " + word,), cached_from="r/train")
    assert find(sha256_text(word)).id == find(produced=sha256_text("model " + word)).id == worked
    assert {near.id for near in find.fails(sha256_text(word), cached=True).near} == {worked, took}
    only = made.run(word + " elsewhere", cached_from="gone/train")
    [near] = find.fails(sha256_text(word + " elsewhere")).near
    assert (near.id, near.differs) == (only, {"cached from": "gone/train"})


def test_a_run_is_found_by_what_it_produced_and_what_it_consumed(find: Finds, made: Made) -> None:
    model, data = (f"{word} {made.pipeline}" for word in ("model", "data"))
    trained = made.run("trains", inputs=(data,), outputs=(model,))
    converted = made.run("converts", inputs=(model,), component="convert")
    made.run("the pipeline", kind="pipeline", inputs=(data,), outputs=(model,))
    assert find(produced=f"sha256:{sha256_text(model)}").id == trained
    assert find(consumed=sha256_text(model)[:16]).id == converted
    assert find(consumed=sha256_text(data)).id == trained
    near = find.fails(produced=sha256_text(model), component="convert").near
    assert {item.id for item in near} >= {trained, converted}


def test_the_server_has_the_last_word(find: Finds, made: Made, client: MlflowClient) -> None:
    """What the index cannot have seen yet (a deletion, a run that was sent late) is seen by the look-up."""
    word = f"word {made.pipeline}"
    old = made.run(word, start=LONG_AGO + 10**6)
    assert find(sha256_text(word)).id == old
    late = made.run(word, start=LONG_AGO + 10**6 + 1)
    assert {near.id for near in find.fails(sha256_text(word)).near} == {old, late}
    client.delete_run(old)
    assert find(sha256_text(word)).id == late
    assert find(sha256_text(word), refresh=False).id == late


def test_filters_say_the_same_to_the_index_and_to_the_server(find: Finds, made: Made) -> None:
    odd = {"it's": "a 'quoted' value", "per%cent": "100%", "unicode": "größer"}
    run = made.run("odd", params={"q": "it's"}, metrics={"loss": float("nan"), "f1": 0.5}, **{"a.b": "x y"})
    for name, value in odd.items():
        made.client.set_tag(run, name.replace("'", "").replace("%", ""), value)
    asked: dict[str, Any] = {"pipeline": made.pipeline}
    for more in (
        {"params": {"q": "it's"}},
        {"tags": {"its": "a 'quoted' value", "percent": "100%", "unicode": "größer", "intermodal.a.b": "x y"}},
        {"metrics": ["f1 > 0.4", "f1<=0.5", "f1 != 0.6"]},
    ):
        assert find(**asked, **more).id == find(**asked, **more, refresh=False).id == run
    for more in (
        {"metrics": ["loss < 1"]},
        {"metrics": ["f1 > 0.5"]},
        {"tags": {"unicode": "gr_ßer"}},
        {"state": "FAILED"},
    ):
        assert find.fails(**asked, **more).near[0].id == run
        assert find.fails(**asked, **more, refresh=False).near[0].id == run


def test_what_cannot_be_asked_is_refused_by_name(find: Finds, tmp_path: Path) -> None:
    for asked, words in (
        ({}, "nothing is asked for"),
        ({"identity": "latest"}, "identity 'latest'"),
        ({"produced": "abc"}, "digest 'abc'"),
        ({"metrics": ["f1 is good"]}, "metric 'f1 is good'"),
        ({"params": {'a"b': "1"}}, "quote"),
    ):
        with pytest.raises(BadInput, match=words):
            find(**asked)
    with pytest.raises(EnvironmentProblem, match="no index"):
        find_mlflow_run("0" * 64, tracking_uri=find.server, state_folder=tmp_path / "new", refresh=False)
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        find_mlflow_run("0" * 64, tracking_uri="http://127.0.0.1:9", state_folder=tmp_path / "new")


def test_all_that_match_are_listed_where_that_is_asked_for(find: Finds, made: Made) -> None:
    runs = [made.run(f"of many {number}", start=LONG_AGO + number) for number in range(3)]
    asked = {"tracking_uri": find.server, "state_folder": find.state, "pipeline": made.pipeline}
    assert [run.id for run in find_mlflow_runs(**asked)] == runs
    assert find_mlflow_runs(**asked, component="none") == []


def test_the_command_finds_refuses_and_says_how_old_the_index_is(find: Finds, made: Made) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": find.server}
        line = [sys.executable, "-m", "intermodal", *words, "--state", str(find.state)]
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)

    model = f"model of {made.pipeline}"
    run = made.run("run", params={"lr": 0.1}, outputs=(model,))
    made.run("other", params={"lr": 0.2})
    consumer = made.run(
        "consumer", component="convert", run="r2", inputs=(model,), metrics={"validation_macro_f1": 0.95}
    )
    for words, found in (
        (("--param", "lr=0.1"), run),
        (("--produced", f"sha256:{sha256_text(model)[:12]}"), run),
        (("--consumed", sha256_text(model)[:12]), consumer),
        (("--component", "convert", "--metric", "validation_macro_f1>=0.9"), consumer),
        (("--run", "r2", "--kind", "task"), consumer),
    ):
        done = command("find", "--pipeline", made.pipeline, *words, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["id"] == found, (words, done.stderr)
    several = command("find", "--pipeline", made.pipeline, "--component", "train", "--json")
    assert several.returncode == 1 and "2 runs are what was asked for" in several.stderr
    assert {near["differs"]["parameter lr"] for near in json.loads(several.stdout)["near"]} == {"0.1", "0.2"}
    assert command("find", "latest").returncode == 2
    for what in (sha256_text(model)[:16], run):
        shown = command("lineage", what)
        assert shown.returncode == 0 and run in shown.stdout and model in shown.stdout
    assert command("lineage", "0" * 64).returncode == 2
    offline = command("find", sha256_text("run")[:20], "--pipeline", made.pipeline, "--offline")
    assert offline.returncode == 0 and run in offline.stdout and "the index is" in offline.stderr
    assert command("index", "--status").returncode == 0
    made.run("unseen")
    stale = command("index", "--status", "--json")
    assert stale.returncode == 1 and json.loads(stale.stdout)["behind"] == 1
    assert "new" in command("index", "--rebuild").stdout


def test_lineage_goes_through_content_in_both_directions(find: Finds, made: Made, tmp_path: Path) -> None:
    def word(name: str) -> str:
        return f"{name} of {made.pipeline}"

    split = made.run(word("split"), task="split", run="r1", inputs=(word("raw"),), outputs=(word("data"),))
    trained = made.run(word("t"), task="train", run="r1", inputs=(word("data"),), outputs=(word("model"),))
    made.run(
        word("t"), task="train", run="r2", inputs=(word("data"),), outputs=(word("model"),), cached_from="r1/train"
    )
    converted = made.run(
        word("c"), task="convert", run="r2", inputs=(word("model"), word("data")), outputs=(word("onnx"),)
    )
    find(sha256_text(word("t")))
    with open_index(find.server, find.state) as place:
        up, down = lineage(place.index, sha256_text(word("model"))[:20])
        assert [node.run.id for node in up.tasks] == [trained]
        [data] = up.tasks[0].through
        assert [node.run.id for node in data.tasks] == [split]
        assert [item.digest for item in data.tasks[0].through] == [sha256_text(word("raw"))]
        assert [node.run.id for node in down.tasks] == [converted]
        assert [item.digest for item in down.tasks[0].through] == [sha256_text(word("onnx"))]
        up, _ = lineage(place.index, sha256_text(word("onnx")))
        text = "\n".join(lines(up, "made by"))
        assert text.count("r1 train") == 1 and "(see above)" in text  # data has two ways here
        assert outputs_of(place.index, converted) == {sha256_text(word("onnx")): word("onnx")}
        with pytest.raises(BadInput, match="no such artifact"):
            lineage(place.index, "0" * 64)
        with pytest.raises(BadInput, match="is not in the index"):
            outputs_of(place.index, "nothing")

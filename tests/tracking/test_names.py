"""Names: what they are made of, what changes them, and that two machines agree."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl

from intermodal.tracking.names import identity_in, pipeline_identity, run_name, run_path, trial_identity
from tests.conftest import Run
from tests.support.host import HostBackend

identities = st.text("0123456789abcdef", min_size=64, max_size=64)
keys = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
parameters = st.dictionaries(keys, scalars | st.dictionaries(keys, scalars, max_size=4) | st.lists(scalars, max_size=2))


@given(st.text(max_size=80), identities, parameters)
def test_a_name_is_a_file_name_everywhere_and_ends_with_the_identity(what: str, identity: str, values: Any) -> None:
    name = run_name(what, identity, values)
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,128}", name) and not name.endswith(".")
    assert identity_in(name) == identity[:16]
    assert identity_in(str(run_path(what, what, identity, values))) == identity[:16]


@given(st.text(max_size=20), identities, parameters)
def test_the_order_of_parameters_is_no_part_of_a_name(what: str, identity: str, values: dict[str, Any]) -> None:
    def turned(value: Any) -> Any:
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    assert run_name(what, identity, turned(values)) == run_name(what, identity, values)


@given(st.text(max_size=20), parameters, st.lists(identities, unique_by=lambda text: text[:16], max_size=8))
def test_other_identities_have_other_names(what: str, values: dict[str, Any], many: list[str]) -> None:
    assert len({run_name(what, identity, values) for identity in many}) == len(many)


@given(st.tuples(st.text(max_size=60), st.text(max_size=60)), st.tuples(st.text(max_size=60), st.text(max_size=60)))
def test_folders_of_other_pipelines_and_components_are_other_folders(one: Any, other: Any) -> None:
    paths = [run_path(*pair, "0" * 64) for pair in (one, other)]
    assert (paths[0].parent == paths[1].parent) == (one == other)
    for path in paths:
        assert len(path.parts) == 3 and not path.is_absolute() and ".." not in path.parts


def test_a_name_says_what_was_tuned() -> None:
    tuned = {"learning_rate": 0.00145, "batch_size": 4, "dropout": 0.1}
    name = run_name("trainer", "ab" * 32, {"seed": 13, "hyperparameters": tuned, "sampler": "tpe"})
    assert name == "trainer-tpe-seed13-bs4-dropout0.1-lr0.00145-" + "ab" * 8


def test_an_identity_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no sha256"):
        run_name("trainer", "latest")


@dsl.container_component
def train(data: dsl.Input[dsl.Dataset], hyperparameters: dict, seed: int, model: dsl.Output[dsl.Model]):
    """Copies its data; the host backend runs it as a process, under an image digest that the test chooses."""
    return dsl.ContainerSpec(
        image="trainer", command=["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat "$0" > "$1"', data.path, model.path]
    )


@dsl.pipeline(name="p")
def tuned(data: dsl.Input[dsl.Dataset], hyperparameters: dict, seed: int):
    train(data=data, hyperparameters=hyperparameters, seed=seed)


class Machine:
    """A machine with a state folder of its own, its own place for the data, and an image."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder = run, folder

    def name(self, *, data: str = "text", image: str = "sha256:1", seed: int = 7, **hyperparameters: float) -> str:
        """Run the pipeline and return the name that its training has."""
        self._folder.mkdir(exist_ok=True)
        file = self._folder / f"data-{len(list(self._folder.iterdir()))}.txt"
        file.write_text(data)
        backend = HostBackend()
        backend.digests["trainer"] = image
        values = {"learning_rate": 0.1, "batch_size": 4, **hyperparameters}
        ran = self._run(tuned, backend=backend, data=str(file), hyperparameters=values, seed=seed)
        row = ran.tasks()["train"]
        return run_name("train", row["fingerprint"], json.loads(row["inputs"])["parameters"])


def test_each_part_of_the_identity_makes_another_name_and_nothing_else_does(run: Run, tmp_path: Path) -> None:
    here, there = Machine(run, tmp_path / "here"), Machine(run, tmp_path / "there")
    name = here.name()
    assert re.fullmatch(r"train-seed7-bs4-lr0.1-[0-9a-f]{16}", name)
    (tmp_path / "state").rename(tmp_path / "first-state")  # the other machine knows nothing of this one
    assert there.name() == name

    others = [
        there.name(learning_rate=0.2),
        there.name(learning_rate=0.1 + 1e-9),  # reads the same, is not the same
        there.name(batch_size=8),
        there.name(seed=8),
        there.name(data="text, and more"),
        there.name(image="sha256:2"),
    ]
    assert len({name, *others}) == 1 + len(others)
    assert others[1].rpartition("-")[0] == name.rpartition("-")[0]
    assert others[4].rpartition("-")[0] == name.rpartition("-")[0]
    assert there.name() == name


def test_the_identity_of_a_pipeline_run_counts_inputs_and_images_and_that_of_a_trial_what_it_tried() -> None:
    base = pipeline_identity("d", {"data": ["sha256:1"], "seed": 1}, {"trainer": "sha256:a"})
    assert base == pipeline_identity("d", {"seed": 1, "data": ["sha256:1"]}, {"trainer": "sha256:a"})
    changed = {
        pipeline_identity("e", {"data": ["sha256:1"], "seed": 1}, {"trainer": "sha256:a"}),
        pipeline_identity("d", {"data": ["sha256:2"], "seed": 1}, {"trainer": "sha256:a"}),
        pipeline_identity("d", {"data": ["sha256:1"], "seed": 2}, {"trainer": "sha256:a"}),
        pipeline_identity("d", {"data": ["sha256:1"], "seed": 1}, {"trainer": "sha256:b"}),
    }
    assert len(changed | {base}) == 5
    trial = trial_identity("study", "sha256:a", {"lr": 0.1, "bs": 4})
    assert trial == trial_identity("study", "sha256:a", {"bs": 4, "lr": 0.1})
    assert trial not in {
        trial_identity("study", "sha256:a", {"lr": 0.2, "bs": 4}),
        trial_identity("other", "sha256:a", {"lr": 0.1, "bs": 4}),
        trial_identity("study", "sha256:b", {"lr": 0.1, "bs": 4}),
    }

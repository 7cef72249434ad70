"""What platform specs (kfp-kubernetes) ask for, given on one machine. Real processes."""

import json
import os
from pathlib import Path

import pytest
from kfp import dsl, kubernetes

from intermodal.engine.backend import Image, PullPolicy
from intermodal.engine.environment import expand_variables
from intermodal.engine.failure import FailureClass
from intermodal.engine.options import Options
from intermodal.engine.platform import ConfigFolders
from intermodal.engine.states import State
from tests.conftest import Ran, Run
from tests.engine.steps import say, shell
from tests.support.host import HostBackend

SECRET = "s3cr3t-value"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Options with a secret `db` and a config map `conf`."""
    secrets, maps = tmp_path / "secrets", tmp_path / "maps"
    for folder, content in ((secrets / "db", {"password": SECRET, "user": "me"}), (maps / "conf", {"mode": "fast"})):
        folder.mkdir(parents=True)
        for key, value in content.items():
            (folder / key).write_text(value)
    return Options(grace=1.0, configs=ConfigFolders(secrets, maps))


def output(ran: Ran, name: str = "Output") -> object:
    assert ran.result.state.green, ran.recorder.failures
    return ran.result.outputs.parameters[name]


def test_secrets_and_config_maps_as_variables(run: Run, options: Options):
    @dsl.pipeline(name="p")
    def pipeline(secret: str = "db") -> str:
        task = shell(script='test "$(printf %s "$PASSWORD" | wc -c)" = 12 && printf %s "$MODE" > "$1"')
        kubernetes.use_secret_as_env(task, secret, {"password": "PASSWORD"})
        kubernetes.use_config_map_as_env(task, "conf", {"mode": "MODE"})
        task.set_env_variable("ADDRESS", "http://$(PASSWORD)@host").set_env_variable("AGAIN", "$(ADDRESS)")
        return task.outputs["out"]

    ran = run(pipeline, options=options)
    assert output(ran) == "fast"
    assert ran.backend.launches[0].env["AGAIN"] == f"http://{SECRET}@host"
    state = [path for path in ran.state.rglob("*") if path.is_file()]
    assert state and not [path for path in state if SECRET.encode() in path.read_bytes()]


def test_a_secret_as_files_is_there_for_the_attempt_only(run: Run, options: Options, tmp_path: Path):
    mounted = tmp_path / "mounted"

    @dsl.pipeline(name="p")
    def pipeline(path: str) -> str:
        task = shell(script=f'ls {mounted} | tr "\\n" " " > "$1"; test -s {mounted}/password')
        kubernetes.use_secret_as_volume(task, "db", str(mounted))
        return task.outputs["out"]

    ran = run(pipeline, options=options, path="x")
    assert str(output(ran)).split() == ["password", "user"]
    assert not os.path.exists(mounted.readlink()), "the copy outlived the attempt"  # noqa: PTH110


def test_a_new_version_of_a_secret_is_another_task(run: Run, options: Options):
    @dsl.pipeline(name="p")
    def pipeline():
        task = shell(script='printf x > "$1"')
        kubernetes.use_secret_as_env(task, "db", {"password": "PASSWORD"})

    assert run(pipeline, options=options).result.state is State.SUCCEEDED
    assert run(pipeline, options=options).result.state is State.CACHED
    os.utime(options.configs.secrets / "db" / "password", (1, 1))
    assert run(pipeline, options=options).result.state is State.SUCCEEDED


@pytest.mark.parametrize(("secret", "key"), [("absent", "password"), ("db", "absent"), ("../maps/conf", "mode")])
def test_what_is_not_there_is_named(run: Run, options: Options, secret: str, key: str):
    @dsl.pipeline(name="p")
    def pipeline():
        task = shell(script="true")
        kubernetes.use_secret_as_env(task, secret, {key: "X"})

    message = run(pipeline, options=options).recorder.failures["shell"].message
    assert "absent" in message or "../maps" in message


def test_an_optional_secret_may_be_absent(run: Run, options: Options):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        task = shell(script='printf %s "${X-unset}" > "$1"')
        kubernetes.use_secret_as_env(task, "absent", {"k": "X"}, optional=True)
        return task.outputs["out"]

    assert output(run(pipeline, options=options)) == "unset"


def test_field_paths_labels_and_annotations(run: Run):
    @dsl.pipeline(name="p")
    def pipeline() -> str:
        task = shell(script='printf %s "$TEAM/$WHO/$POD" > "$1"')
        kubernetes.add_pod_label(task, "team", "ner")
        kubernetes.add_pod_annotation(task, "who", "me")
        kubernetes.use_field_path_as_env(task, "TEAM", "metadata.labels['team']")
        kubernetes.use_field_path_as_env(task, "WHO", "metadata.annotations['who']")
        kubernetes.use_field_path_as_env(task, "POD", "metadata.name")
        return task.outputs["out"]

    ran = run(pipeline)
    assert output(ran) == "ner/me/shell"
    assert ran.backend.launches[0].labels == {"team": "ner"}


def test_a_field_that_one_machine_has_not_is_named(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        kubernetes.use_field_path_as_env(shell(script="true"), "NODE", "spec.nodeName")

    assert "spec.nodeName" in run(pipeline).recorder.failures["shell"].message


def test_an_empty_dir_is_writable_and_gone_afterwards(run: Run, tmp_path: Path):
    scratch = tmp_path / "scratch"

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        task = shell(script=f'echo x > {scratch}/f && ls {scratch} > "$1"')
        kubernetes.empty_dir_mount(task, "scratch", str(scratch))
        return task.outputs["out"]

    assert output(run(pipeline)) == "f\n"
    assert not os.path.exists(scratch.readlink())  # noqa: PTH110


def test_a_created_claim_is_shared_and_deleted(run: Run, tmp_path: Path):
    path = str(tmp_path / "claim")

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        claim = kubernetes.CreatePVC(pvc_name_suffix="-data", access_modes=["ReadWriteOnce"], size="1Gi")
        write = shell(script=f'echo kept > {path}/f; printf ok > "$1"')
        read = shell(script=f'cat {path}-2/f > "$1"').after(write)
        kubernetes.mount_pvc(write, claim.outputs["name"], path)
        kubernetes.mount_pvc(read, claim.outputs["name"], path + "-2")
        kubernetes.DeletePVC(pvc_name=claim.outputs["name"]).after(read)
        return read.outputs["out"]

    class NoSuchImages(HostBackend):
        def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
            assert not reference.startswith("argostub/")  # they stand for an operation and exist nowhere
            return super().resolve_image(reference, pull)

    ran = run(pipeline, backend=NoSuchImages())
    assert output(ran) == "kept\n"
    assert list((ran.state / "volumes").iterdir()) == []


def test_tasks_share_a_workspace_and_are_never_cached(run: Run):
    @dsl.pipeline(name="p", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")))
    def pipeline() -> str:
        write = shell(script='echo here > "$0/note"; printf ok > "$1"'.replace("$0", dsl.WORKSPACE_PATH_PLACEHOLDER))
        read = shell(script=f'cat "{dsl.WORKSPACE_PATH_PLACEHOLDER}/note" > "$1"').after(write)
        return read.outputs["out"]

    assert output(run(pipeline)) == "here\n"
    again = run(pipeline)
    assert again.result.state is State.SUCCEEDED and output(again) == "here\n"


def test_an_attempt_has_its_time(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        kubernetes.set_timeout(shell(script="sleep 30"), 1)

    ran = run(pipeline)
    failure = ran.recorder.failures["shell"]
    assert (failure.kind, ran.result.state) == (FailureClass.TIMEOUT, State.FAILED)
    assert "1 s" in failure.message


def test_a_run_has_its_time(run: Run):
    @dsl.pipeline(name="p")
    def pipeline():
        slow = shell(script="sleep 30")
        say(text="never").after(slow)
        say(text="x")

    ran = run(pipeline, options=Options(grace=1.0, timeout=1.0))
    assert ran.result.state is State.FAILED
    assert ran.recorder.failures["shell"].kind is FailureClass.TIMEOUT
    assert (ran.states["say"], ran.states["say-2"]) == ("CANCELLED", "SUCCEEDED")


def test_the_final_status_word_is_an_option(run: Run):
    @dsl.component
    def word(status: dsl.PipelineTaskFinalStatus) -> str:
        return status.state

    @dsl.pipeline(name="p")
    def pipeline():
        with dsl.ExitHandler(word()):
            say(text="x")

    def said(options: Options) -> object:
        return json.loads(run(pipeline, options=options).tasks()["word"]["outputs"])["parameters"]["Output"]

    assert said(Options()) == "COMPLETE"
    assert said(Options(success_word="SUCCEEDED")) == "SUCCEEDED"


def test_variables_refer_to_earlier_ones():
    declared = [("A", "1"), ("B", "$(A)2"), ("C", "$(D) $$(A) $$ $("), ("D", "x")]
    assert expand_variables({"H": "/h"}, [*declared, ("E", "$(H)/$(B)")]) == {
        "H": "/h",
        "A": "1",
        "B": "12",
        "C": "$(D) $(A) $ $(",
        "D": "x",
        "E": "/h/12",
    }

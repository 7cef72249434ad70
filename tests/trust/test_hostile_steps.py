"""What a step may write to harm its runner: links out of its folder, special files, documents that burst. Each is one clear failure."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from kfp import dsl, kubernetes

from intermodal.engine.failure import FailureClass
from intermodal.engine.layout import StateFolder
from intermodal.engine.store import Store
from intermodal.engine.temporary import discard
from intermodal.errors import BadInput
from tests.conftest import Ran, Run

CANARY = "canary-3f1c"


@dsl.container_component
def python(source: str, value: dsl.OutputPath(str), data: dsl.Output[dsl.Artifact]):
    """Run `source` with `value`, `data` and `outputs` (the folder of all outputs) as names."""
    return dsl.ContainerSpec(
        image="python",
        command=[sys.executable, "-c", "import os, sys; value, data, source = sys.argv[1:];"
                 "outputs = os.path.dirname(os.path.dirname(value)); exec(source)"],
        args=[value, data.path, source],
    )  # fmt: skip


def fails(ran: Ran, task: str = "python") -> tuple[FailureClass, str]:
    assert ran.result.state.value == "FAILED"
    failure = ran.recorder.failures[task]
    assert "internal error" not in failure.message and "\n" not in failure.message
    return failure.kind, failure.message


@dsl.pipeline(name="hostile")
def hostile(source: str):
    python(source=source)


OK = "open(value, 'w').write('x'); open(data, 'w').write('x'); "
REPORT = "import json; open(outputs + '/executor_output.json', 'w').write("


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("open(data, 'w'); os.rmdir(outputs + '/parameters'); os.symlink({secret!r}, outputs + '/parameters')", "value"),
        ("open(data, 'w'); os.symlink({secret!r} + '/value', value)", "value"),
        ("open(data, 'w'); os.mkfifo(value)", "not a regular file"),
        ("open(data, 'w'); os.mkdir(value)", "not a regular file"),
        ("open(value, 'w'); os.symlink({secret!r}, data)", "symbolic link"),
        ("open(value, 'w'); os.mkfifo(data)", "special file"),
        ("open(value, 'w'); os.mkdir(data); os.symlink({secret!r} + '/value', data + '/x')", "symbolic link (x)"),
        ("open(value, 'w'); os.mkdir(data); os.mkfifo(data + '/x')", "special file (x)"),
        ("import socket; open(value, 'w'); os.chdir(outputs); socket.socket(socket.AF_UNIX).bind('s'); os.rename('s', data)",
         "special file"),
        ("open(value, 'w'); os.rmdir(outputs + '/artifacts'); os.symlink({secret!r}, outputs + '/artifacts')", "symbolic link"),
        ("open(data, 'w'); open(value, 'wb').write(b'\\xff')", "UTF-8"),
        ("open(data, 'w'); open(value, 'w').truncate(2 ** 40)", "too many"),
        (OK + "os.symlink({secret!r} + '/value', outputs + '/executor_output.json')", "executor output"),
        (OK + "os.mkfifo(outputs + '/executor_output.json')", "executor output"),
        (OK + "open(outputs + '/executor_output.json', 'w').truncate(2 ** 40)", "too many"),
        (OK + REPORT + "'[' * 2_000_000)", "deeper"),
        (OK + REPORT + "'{{\"a\":' * 90_000 + '1' + '}}' * 90_000)", "deeper"),
        (OK + REPORT + "'[' + '[],' * 3_000_000 + '1]')", "values"),
        (OK + REPORT + "json.dumps({{'artifacts': {{'data': {{'artifacts': [{{'metadata': {{'loss': float('nan')}}}}]}}}}}}))", "NaN"),
        (OK + REPORT + "'{{\"parameterValues\": {{\"value\": \"\\\\ud800\"}}}}')", "no text"),
        (OK + REPORT + "json.dumps({{'artifacts': {{'data': {{'artifacts': [{{'uri': 'a\\0b'}}]}}}}}}))", "no path"),
        (OK + REPORT + "json.dumps({{'artifacts': {{'data': {{'artifacts': [{{'uri': '/etc/passwd'}}]}}}}}}))", "outside of its outputs"),
        (OK + REPORT + "json.dumps({{'artifacts': {{'data': {{'artifacts': [{{'custom_path': outputs + '/../../x'}}]}}}}}}))",
         "outside of its outputs"),
    ],
)  # fmt: skip
def test_a_step_that_writes_what_it_may_not(run: Run, tmp_path: Path, source: str, word: str):
    secret = tmp_path / "private"
    secret.mkdir()
    (secret / "value").write_text(CANARY)
    (secret / "data").write_text(CANARY)
    ran = run(hostile, source=source.format(secret=str(secret)))
    kind, message = fails(ran)
    assert kind is FailureClass.OUTPUT_INVALID and word in message, message
    for path in ran.state.rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_size < 2**30:
            assert CANARY.encode() not in path.read_bytes(), path


DEEP = (
    "open(value, 'w'); os.mkdir(data); os.chdir(data)\nfor _ in range({depth}): os.mkdir('{name}'); os.chdir('{name}')"
)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (DEEP.format(depth=3000, name="d"), "100 deep"),
        (DEEP.format(depth=90, name="d" * 200), "File name too long"),
        ("open(value, 'w'); os.mkdir(data); open(os.fsencode(data) + b'/\\xff', 'w')", "not UTF-8"),
        ("open(value, 'w'); open(data, 'w').truncate(2 ** 43)", "a hole"),
        ("open(value, 'w'); os.mkdir(data); open(data + '/x', 'w').truncate(2 ** 43)", "a hole (x)"),
        ("open(value, 'w'); os.mkdir(data)\nfor n in range(200): open(f'{data}/{n}', 'w')", "more than 150 files"),
    ],
)
def test_an_artifact_that_is_too_much(run: Run, monkeypatch: pytest.MonkeyPatch, source: str, word: str):
    monkeypatch.setattr("intermodal.engine.store.MAX_ENTRIES", 150)
    ran = run(hostile, source=source)
    kind, message = fails(ran)
    assert kind is FailureClass.OUTPUT_INVALID and word in message, message
    discard(ran.result.folder)
    assert not ran.result.folder.exists()


def test_what_a_step_has_closed_can_be_removed(tmp_path: Path):
    left = tmp_path / "left"
    (left / "closed" / "inner").mkdir(parents=True)
    (left / "closed").chmod(0)
    (tmp_path / "kept").mkdir()
    (left / "link").symlink_to(tmp_path / "kept")
    discard(left)
    assert not left.exists() and (tmp_path / "kept").is_dir()


def test_an_artifact_of_many_files_is_stored(tmp_path: Path):
    """Above some number they are synced together, not one by one."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(600):
        (source / str(number)).write_text(str(number))
    store = Store(tmp_path / "store")
    digest = store.publish(source, link=True)
    assert len(store.manifest(digest).entries) == 600 and store.damage(digest, thorough=True) is None
    assert (store.path(digest) / "7").stat().st_mode & 0o777 == 0o444


def test_a_value_that_no_process_can_take_is_named(run: Run):
    @dsl.pipeline(name="hostile")
    def pass_on(source: str):
        first = python(source=source)
        python(source=first.outputs["value"])

    for source, word in (
        ("open(data, 'w'); open(value, 'w').write('a\\0b')", "NUL"),
        ("open(data, 'w'); open(value, 'w').write('x' * 200_000)", "200000 bytes"),
    ):
        kind, message = fails(run(pass_on, source=source), "python-2")
        assert kind is FailureClass.USER_CODE and word in message and len(message) < 200


@dsl.container_component
def shell(script: str):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", script])


def test_a_link_in_a_volume_does_not_lead_out_of_it(run: Run, tmp_path: Path):
    private = tmp_path / "private"
    private.mkdir(mode=0o755)
    inside = tmp_path / "inside"

    @dsl.pipeline(name="hostile")
    def linked():
        first = shell(script=f"ln -s {private} {inside}/way")
        kubernetes.mount_pvc(first, "claim", str(inside))
        second = shell(script=f"touch {inside}-2/was-here").after(first)
        kubernetes.mount_pvc(second, "claim", str(inside) + "-2", sub_path="way")

    ran = run(linked)
    kind, message = fails(ran, "shell-2")
    assert kind is FailureClass.USER_CODE and "volume claim" in message
    assert list(private.iterdir()) == [] and private.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "name", ["..", "../..", "/etc", "a/../../b", "", "x" * 300, "-rf", "a\nb", "ü", "$(id)", "%2e%2e"]
)
def test_no_claim_and_no_folder_of_it_is_outside(tmp_path: Path, name: str):
    state = StateFolder.at(tmp_path / "state")
    volumes = state.root / "volumes"
    for claim, sub_path in ((name or "x", ""), ("claim", name)):
        folder = state.volume(claim, sub_path)
        assert folder.resolve() == folder and volumes in folder.parents
    (volumes / "claim" / "file").write_text("")
    with pytest.raises(BadInput, match="volume claim"):
        state.volume("claim", "file")


def test_names_stay_different_and_inside(tmp_path: Path):
    state = StateFolder.at(tmp_path / "state")
    names = ["..", ".", "a", "A", "%2E.", "a b", "a%20b", "x" * 300, "x" * 301, "\n", "ü", "u\u0308", "-rf", "~", ""]
    folders = [state.attempt("run", name, 1) for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert folder.parent.parent == state.run("run") / "tasks"
        assert len(os.fsencode(folder.parent.name)) < 256
        folder.mkdir(parents=True)


def test_what_is_recorded_can_be_read(run: Run):
    """A value with every awkward character goes through record, cache and commands unchanged."""
    text = (
        "".join(map(chr, [*range(1, 160), 0x2028, 0x202E, 0xFFFD, 0x1F600]))
        + "{{$.inputs.parameters['x']}} ${{inputs.x}}"
    )
    ran = run(hostile, source=f"open(data, 'w'); open(value, 'w', newline='').write({text!r})")
    assert json.loads(ran.tasks()["python"]["outputs"])["parameters"]["value"] == text

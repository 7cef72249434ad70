"""Where the value of a secret may be, and where it is not: in nothing that is kept, and in nothing that is said."""

import base64
import json
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from kfp import dsl, kubernetes

from tests.trust.conftest import Command

FILE_VALUE, ENV_VALUE = "file-secret+/2c9e", "env-secret+/77ab"
BASE = "intermodal/base:dev"


def forms(value: str) -> list[bytes]:
    raw = value.encode()
    return [
        raw,
        base64.b64encode(raw).rstrip(b"="),
        urllib.parse.quote(value, safe="").encode(),
        raw[::-1],
        raw.hex().encode(),
    ]


def holds(content: bytes) -> bool:
    return any(form in content for value in (FILE_VALUE, ENV_VALUE) for form in forms(value))


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    for name, key, value in (
        ("s", "file", FILE_VALUE),
        ("e", "variable", ENV_VALUE),
        ("long", "v", ENV_VALUE * 10_000),
        ("nul", "v", f"{ENV_VALUE}\0"),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / key).write_text(value)
    return folder


@dsl.container_component
def works(out: dsl.OutputPath(str)):
    script = 'test "$(cat /secret/file)" = "$0" || test -n "$VARIABLE" && stat -c "%a %u" /secret/file > "$0"; sleep 2'
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", script], args=[out])


@dsl.container_component
def fails():
    return dsl.ContainerSpec(image=BASE, command=["sh", "-c", 'test -n "$VARIABLE" && exit 3'])


@dsl.container_component
def never():
    return dsl.ContainerSpec(image=BASE, command=["true"])


@dsl.pipeline(name="secretive")
def secretive():
    task = works()
    kubernetes.use_secret_as_volume(task, "s", "/secret")
    kubernetes.use_secret_as_env(task, "e", {"variable": "VARIABLE"})
    kubernetes.use_secret_as_env(fails(), "e", {"variable": "VARIABLE"})
    kubernetes.use_secret_as_env(never(), "long", {"v": "TOO_LONG"})
    kubernetes.use_secret_as_env(never(), "nul", {"v": "WITH_NUL"})


class Watch(threading.Thread):
    """Inspects the step's container, and looks at the copy of the secret, while it runs."""

    def __init__(self, state: Path) -> None:
        super().__init__(daemon=True)
        self._state = state
        self.container: dict[str, Any] = {}
        self.modes: list[int] = []

    def run(self) -> None:
        client = docker_py.from_env().api
        labels = [f"io.intermodal.state={self._state.resolve()}", "io.intermodal.task=works"]
        deadline = time.monotonic() + 60
        while not self.container and time.monotonic() < deadline:
            for found in client.containers(filters={"label": labels}):
                self.container = client.inspect_container(found["Id"])
                for path in self._state.glob("runs/*/tasks/works/attempt-1/extras/**/*"):
                    self.modes.append(path.stat().st_mode & 0o777)
            time.sleep(0.05)
        client.close()


@pytest.mark.engine
def test_a_secret_is_in_nothing_that_is_kept_or_said(intermodal: Command, secrets: Path):
    watch = Watch(intermodal.state)
    watch.start()
    done = intermodal.run(secretive, "--secrets", str(secrets))
    watch.join(5)
    assert done.code == 1
    assert done.failures == {
        "fails": ("user_code", "exit code 3"),
        "never": ("user_code", "variable TOO_LONG: 160009 bytes are too many for a process; pass it as an artifact"),
        "never-2": ("user_code", "variable WITH_NUL: holds a NUL character"),
    }
    mode, uid = done.task("works")["outputs"]["parameters"]["out"].split()
    assert mode == "400" and uid != "0"
    # While it runs: the file is its owner's alone, and the engine knows the one secret that the pipeline wants as a variable.
    assert sorted(watch.modes) == [0o400, 0o700]
    config = watch.container["Config"]
    assert f"VARIABLE={ENV_VALUE}" in config.pop("Env")
    assert not holds(json.dumps(watch.container).encode())
    # Afterwards it is nowhere.
    commands = (["show"], ["show", "--json"], ["runs", "--json"], ["report"], ["logs"])
    said = [done.out, done.err, *(intermodal.text(*words) for words in commands)]
    assert not any(holds(text.encode()) for text in said)
    for path in intermodal.state.rglob("*"):
        assert not holds(str(path).encode())
        assert not path.is_file() or not holds(path.read_bytes()), path
    assert list(intermodal.state.rglob("*.html"))

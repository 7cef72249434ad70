"""A pipeline that needs more than the container contract gives says so, gets that and no more, and it is on record."""

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from kfp import dsl, kubernetes

from intermodal.engine.platform import Extras, Provided
from tests.trust.conftest import Command, Done

pytestmark = pytest.mark.engine

LOOK = r"""
status=$(cat /proc/self/status)
field() { echo "$status" | sed -n "s/^$1:[[:space:]]*//p"; }
probe() { if "$@" 2>/dev/null; then echo true; else echo false; fi; }
printf '{"uid": %s, "caps": "%s", "privileges": "%s", "root": %s, "home": "%s", "net": %s}' "$(id -u)" "$(field CapEff)" \
    "$(field NoNewPrivs)" "$(probe touch /etc/new)" "$HOME" "$(probe test -e /sys/class/net/eth0)" > "$0"
"""


@dsl.container_component
def look(seen: dsl.OutputPath(dict)):
    return dsl.ContainerSpec(image="intermodal/base:dev", command=["sh", "-c", LOOK], args=[seen])


@dsl.container_component
def other(seen: dsl.OutputPath(dict)):
    return dsl.ContainerSpec(image="intermodal/base:dev", command=["sh", "-c", LOOK], args=[seen])


@dsl.pipeline(name="relaxing")
def relaxing():
    look()
    other()


def seen(done: Done, task: str) -> dict[str, Any]:
    return dict(done.task(task)["outputs"]["parameters"]["seen"])


STRICT = {"caps": "0" * 16, "privileges": "1", "root": False, "home": "/tmp", "net": False}


def test_nothing_is_relaxed_unless_asked(intermodal: Command):
    done = intermodal.run(relaxing)
    assert done.code == 0, done.err
    for task in ("look", "other"):
        found = seen(done, task)
        assert found.pop("uid") != 0
        assert found == STRICT
    assert "relaxed" not in done.err and "relaxed" not in intermodal.text("show")


def test_one_component_gets_what_the_command_line_says(intermodal: Command):
    done = intermodal.run(relaxing, "--relax", "look=writable-root,image-user", "--network", "look=bridge")
    assert done.code == 0, done.err
    assert seen(done, "look") == {
        "uid": 0, "caps": "0" * 16, "privileges": "1", "root": True, "home": "/root", "net": True
    }  # fmt: skip
    assert seen(done, "other") | {"uid": 1} == STRICT | {"uid": 1}
    assert "note: relaxed for look: image-user, writable-root, network bridge" in done.err
    shown = intermodal.text("show")
    assert shown.count("relaxed: image-user, writable-root, network bridge") == 1
    launches = {attempt["path"]: json.loads(attempt["launch"]) for attempt in done.record["attempts"]}
    assert launches["look"]["relax"] == ["image-user", "writable-root"] and launches["look"]["network"] == "bridge"
    assert launches["other"]["relax"] == [] and launches["other"]["network"] == "none"


def test_the_settings_say_it_for_every_component_and_for_one(intermodal: Command):
    (intermodal.folder / "pyproject.toml").write_text(
        '[tool.intermodal.relax]\n"*" = ["capabilities", "image-user"]\nother = []\n'
    )
    done = intermodal.run(relaxing)
    assert done.code == 0, done.err
    assert seen(done, "look")["caps"] != "0" * 16 and seen(done, "look")["privileges"] == "1"
    assert seen(done, "other") | {"uid": 1} == STRICT | {"uid": 1}


def test_what_cannot_be_relaxed_is_refused(intermodal: Command):
    for option, word, named in (
        ("--relax", "privileged", "privileged"),
        ("--relax", "lok=image-user", "'lok'"),
        ("--network", "host", "host"),
    ):
        done = intermodal.run(relaxing, option, word)
        assert done.code == 2 and named in done.err and not done.record, done.err
    (intermodal.folder / "pyproject.toml").write_text('[tool.intermodal.relax]\nlook = ["privileged"]\n')
    done = intermodal.run(relaxing)
    assert done.code == 2 and "relax.look" in done.err


def test_a_run_that_goes_on_keeps_what_was_relaxed(intermodal: Command):
    @dsl.container_component
    def fails(seen: dsl.OutputPath(dict)):
        return dsl.ContainerSpec(
            image="intermodal/base:dev", command=["sh", "-c", "touch /etc/new && exit 3"], args=[seen]
        )

    @dsl.pipeline(name="again")
    def again():
        fails()

    done = intermodal.run(again, "--relax", "image-user,writable-root")
    assert done.failures == {"fails": ("user_code", "exit code 3")}
    assert intermodal("resume").returncode == 1
    record = json.loads(intermodal.text("show", "--json"))
    assert [task["failure"] for task in record["tasks"]] == ["exit code 3"]
    assert len(record["attempts"]) == 2


def test_the_images_own_user_may_read_a_secret_and_nobody_else(intermodal: Command):
    secret = intermodal.folder / "secrets" / "token"
    secret.mkdir(parents=True)
    (secret / "key").write_text("the-value")

    @dsl.container_component
    def uses(out: dsl.OutputPath(str)):
        script = 'test "$(cat /secret/key)" = the-value && stat -c "%a %U" /secret/key > "$0"'
        return dsl.ContainerSpec(image="intermodal/base:dev", command=["sh", "-c", script], args=[out])

    @dsl.pipeline(name="secretive")
    def secretive():
        kubernetes.use_secret_as_volume(uses(), "token", "/secret")

    for options, mode in (([], "400"), (["--relax", "image-user"], "444")):
        done = intermodal.run(secretive, "--no-cache", "--secrets", str(secret.parent), *options)
        assert done.code == 0, done.err
        assert done.task("uses")["outputs"]["parameters"]["out"].startswith(mode)


def test_only_the_way_to_a_secret_for_anyone_is_closed(tmp_path: Path):
    source = tmp_path / "token"
    source.mkdir()
    (source / "key").write_text("v")
    extras = Extras(folders=((source, PurePosixPath("/secret")),))
    with Provided(extras, tmp_path / "attempt", own_uid=False, any_uid=True) as provided:
        copy = provided.mounts[0].source
        assert (copy / "key").stat().st_mode & 0o777 == 0o444
        assert copy.parent.stat().st_mode & 0o777 == 0o700 and copy.parent.stat().st_uid == os.geteuid()
    assert not copy.exists()

"""`intermodal doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.cli.checks import Check
from intermodal.errors import EnvironmentProblem, ExitCode

if TYPE_CHECKING:
    from docker import APIClient

HELP = "explain what this machine lacks"
_GIB = 2**30
_LITTLE_DISK = 10 * _GIB
_TOO_LITTLE_DISK = _GIB
_OLD_DAYS = 30


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=("azureml",), help="instead of what runs here need: what sending them to AzureML needs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a check and a line")


def run(args: argparse.Namespace) -> int:
    """Print one line a check; return 0, or 3 if something that runs need is missing."""
    failed = False
    checks = examine(args.state.absolute())
    if args.backend == "azureml":
        from intermodal.cli.doctor_azureml import examine_azureml

        checks = examine_azureml()
    for check in checks:
        print(json.dumps(vars(check), ensure_ascii=False) if args.json else check.line(), flush=True)
        failed = failed or check.level == "fail"
    return ExitCode.ENVIRONMENT if failed else ExitCode.OK


def examine(state: Path) -> Iterator[Check]:
    """Yield all checks, cheapest first."""
    yield _python()
    yield _uv()
    yield _memory()
    yield _state(state)
    yield from _backends()
    yield _tracking(state)
    yield _disk("state disk", _nearest(state), "free some space, or put the state elsewhere with --state")
    yield from _engine(state)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("ok", "python", f"{version} at {sys.executable}")


def _uv() -> Check:
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if found is None:
        return Check("warn", "uv", "not found; only --backend process and `make lock` need it", "pip install uv")
    return Check("ok", "uv", found)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    message = f"{os.cpu_count()} cores, {total / _GIB:.0f} GiB of memory"
    if total < 6 * _GIB:
        return Check("warn", "machine", message, "the default pipeline wants 6 GiB")
    return Check("ok", "machine", message)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _state(state: Path) -> Check:
    place = _nearest(state)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Check("fail", "state", f"{state} cannot be written: {error.strerror}", "choose another with --state")
    return Check("ok", "state", f"{state} is writable" if place == state else f"{state} can be made")


def _backends() -> Iterator[Check]:
    """Say which packages give backends, and which of those cannot be loaded."""
    from intermodal.backends.registry import plugins

    for plugin in plugins():
        try:
            plugin.load()
        except EnvironmentProblem as problem:
            yield Check("warn", "backend", problem.message, problem.hint)
        else:
            yield Check("ok", "backend", f"{plugin.name}, of package {plugin.package}")


def _tracking(state: Path) -> Check:
    """Say where runs of the project here would be tracked."""
    from intermodal.errors import BadInput
    from intermodal.settings import find_project, load_settings
    from intermodal.tracking.server import EXTRA, is_installed
    from intermodal.tracking.target import target, wanted

    try:
        settings = load_settings(find_project(Path.cwd()))
        on, where = wanted(settings, os.environ), target(settings, os.environ, state)
    except BadInput as problem:
        return Check("warn", "tracking", problem.message, problem.hint)
    if not on:
        return Check("ok", "tracking", "off (docs/tracking.md)")
    if not where.uri and not is_installed():
        return Check("warn", "tracking", "on, but there is no MLflow to serve", f"pip install '{EXTRA}'")
    return Check("ok", "tracking", where.shown if where.uri else where.known() or "a local server, not started yet")


def _disk(name: str, folder: Path, hint: str) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("warn", name, f"{folder}: {error.strerror}")
    message = f"{free / _GIB:.0f} GiB free at {folder}"
    if free < _LITTLE_DISK:
        return Check("fail" if free < _TOO_LITTLE_DISK else "warn", name, message, hint)
    return Check("ok", name, message)


def _engine(state: Path) -> Iterator[Check]:
    from intermodal.backends.docker.client import CONNECTION_ERRORS, address, connect

    try:
        client = connect(timeout=10)
    except EnvironmentProblem as problem:
        yield Check("fail", "engine", problem.message, problem.hint)
        return
    try:
        info: dict[str, Any] = client.info()
        yield Check(
            "ok",
            "engine",
            f"{info['ServerVersion']} at {address()} (API {client.api_version}, {info['Driver']}, "
            f"cgroup v{info.get('CgroupVersion', '?')}, {info.get('Architecture')})",
        )
        yield from _engine_limits(info)
        yield _disk("image disk", Path(info["DockerRootDir"]), "docker system prune")
        yield _sharing(client, state)
        yield _images(client)
    except CONNECTION_ERRORS:
        yield Check("fail", "engine", f"the engine at {address()} stopped answering", "look at its log")
    finally:
        client.close()


def _engine_limits(info: dict[str, Any]) -> Iterator[Check]:
    missing = [name for name in ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit") if not info.get(name)]
    if missing:
        hint = "on cgroup v1 boot with `cgroup_enable=memory swapaccount=1`; rootless needs delegated controllers"
        yield Check("warn", "limits", f"the engine cannot enforce {', '.join(missing)}", hint)


def _sharing(client: APIClient, state: Path) -> Check:
    from intermodal.backends.docker.probe import probe

    place = _nearest(state)
    try:
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=place) as folder:
            probe(client, Path(folder))
    except EnvironmentProblem as problem:
        return Check("fail", "sharing", problem.message, problem.hint)
    except OSError as error:
        return Check("warn", "sharing", f"not tried: {place}: {error.strerror}")
    return Check("ok", "sharing", f"the engine reads and writes files in {place}")


def _images(client: APIClient) -> Check:
    from intermodal.backends.docker.images import LOCAL_PREFIX

    now = time.time()
    ages: dict[str, float] = {}
    for image in client.images():
        for tag in image.get("RepoTags") or ():
            if tag.startswith(LOCAL_PREFIX):
                ages[tag.removeprefix(LOCAL_PREFIX)] = (now - image["Created"]) / 86400
    if not ages:
        return Check("warn", "images", "no step image is built", "make images")
    oldest = max(ages.values())
    day = datetime.fromtimestamp(now - oldest * 86400, UTC).date()
    message = f"{len(ages)} step images ({', '.join(sorted(ages))}), the oldest of {day}"
    if oldest > _OLD_DAYS:
        return Check("warn", "images", message, "make images")
    return Check("ok", "images", message)

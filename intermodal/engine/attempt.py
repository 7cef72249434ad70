"""One attempt of one container task: its folder, its command, its end, its outputs."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.backend import Backend, Image, Launch, Limits, Mount, Network, Packages, Relaxation
from intermodal.engine.environment import expand_variables, hidden_variables
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.harvest import Outbox
from intermodal.engine.layout import StateFolder
from intermodal.engine.naming import safe_name
from intermodal.engine.placeholders import View, resolve, resolve_arguments
from intermodal.engine.platform import EXTRAS, Extras, Provided
from intermodal.engine.store import BadContent, Store
from intermodal.engine.told import VARIABLE, keep_told, told_path
from intermodal.engine.uris import IN_WORKSPACE, is_mounted, path_of, store_uri
from intermodal.engine.values import invalid, shorten
from intermodal.spec.custom_path import keep_custom_paths
from intermodal.spec.types import Component, Container

_ADD_TO_PATH = 'PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$0" && export PYTHONPATH && exec "$@"'
"""Puts the KFP runtime behind what the image or the task puts on PYTHONPATH, and before what the image has installed."""

_LONGEST_WORD = 32 * 4096
"""Of one argument or variable, in bytes with its final zero: MAX_ARG_STRLEN of Linux."""


@dataclass(frozen=True)
class Plan:
    """What an attempt needs, decided before it starts."""

    run: str
    path: str
    number: int
    component: Component
    container: Container
    inputs: Inputs
    image: Image
    limits: Limits
    network: Network
    env: Mapping[str, str]
    job: Mapping[str, str]
    packages: Packages | None = None
    """What the image lacks of what a Python component wants installed."""
    volumes: tuple[Mount, ...] = ()
    extras: Extras = field(default_factory=Extras)
    labels: Mapping[str, str] = field(default_factory=dict)
    relax: frozenset[Relaxation] = frozenset()
    deadline: float | None = None
    """Seconds that an attempt may take, None for no limit."""


class Attempt:
    """Prepares, and after the end harvests, one attempt."""

    def __init__(self, plan: Plan, backend: Backend, store: Store, state: StateFolder) -> None:
        self.plan = plan
        self.folder = state.attempt(plan.run, plan.path, plan.number)
        self.log = self.folder / "log.txt"
        self._backend = backend
        self._store = store
        self._root = backend.step_root(self.folder)
        self._outbox = Outbox(plan.component, self.folder, self._root)
        self._declared: list[tuple[str, str]] = []
        """The component's own variables, before `$(VAR)` in them is expanded."""

    # Before

    def prepare(self, provided: Provided, image: Image, runtime: Path | None = None) -> Launch:
        """Make the folders and return the launch in `image`, with what the platform spec provides.

        `runtime` is the folder of the KFP runtime for a lightweight component; the installing is left out of its command.
        Raises AttemptFailed (disk full).
        """
        self._outbox.prepare()
        plan = self.plan
        mounts, views = self._inputs()
        context = self._outbox.context(plan.inputs, views, plan.job)
        command = plan.container.command
        if plan.container.prelude is not None:
            command = keep_custom_paths(plan.container.prelude.command)
        if runtime is not None:
            target = self._root / "python" / runtime.name
            mounts.append(Mount(runtime, target))
            command = ("sh", "-c", _ADD_TO_PATH, str(target), *command)
        self._declared = [(name, resolve(value, context)) for name, value in plan.container.env]
        self._check_volumes()
        launch = Launch(
            run_id=plan.run,
            task=plan.path,
            attempt=plan.number,
            image=image,
            command=resolve_arguments(command, context),
            args=resolve_arguments(plan.container.args, context),
            env=expand_variables({**plan.env, VARIABLE: told_path(self._root), **provided.env}, self._declared),
            mounts=(*mounts, *plan.volumes, *provided.mounts),
            attempt_dir=self.folder,
            log=self.log,
            limits=plan.limits,
            network=plan.network,
            relax=plan.relax,
            labels=plan.labels,
        )
        _check_words(launch)
        return launch

    def _check_volumes(self) -> None:
        """Look again, just before the start, that no other step has put a link where a volume's folder was."""
        for mount in self.plan.volumes:
            if mount.source.resolve() != mount.source:
                message = f"volume at {mount.target}: a step put a link in the place of {mount.source}"
                raise AttemptFailed(Failure(FailureClass.USER_CODE, message))

    def describe(self, launch: Launch) -> dict[str, Any]:
        """Return the launch for the record: all that is needed to look at it or to do it again, and no secret's value."""
        extras = self.plan.extras
        hidden = hidden_variables([name for name, _ in extras.secret_env], self._declared)
        kept = [item for item in launch.mounts if not item.source.is_relative_to(self.folder / EXTRAS)]
        image = launch.image
        return {
            # `base`: its digest before the packages that a Python component asks for were added.
            "image": {
                "reference": image.reference,
                "id": image.id,
                "digest": image.digest,
                "base": self.plan.image.digest,
            },
            "command": list(launch.command),
            "args": list(launch.args),
            "env": {name: None if name in hidden else value for name, value in launch.env.items()},
            "declared": [list(pair) for pair in self._declared],
            "mounts": [[str(item.source), str(item.target), item.read_only] for item in kept],
            "extras": extras.as_json(),
            "limits": vars(launch.limits),
            "network": launch.network,
            "relax": sorted(launch.relax),
            "labels": dict(launch.labels),
            "deadline": self.plan.deadline,
        }

    def _inputs(self) -> tuple[list[Mount], dict[str, list[View]]]:
        content: dict[PurePosixPath, Path] = {}
        views: dict[str, list[View]] = {}
        for name, items in self.plan.inputs.artifacts.items():
            declared = self.plan.component.input_artifacts.get(name)
            views[name] = []
            for index, item in enumerate(items):
                target = self._root / "inputs" / safe_name(name)
                if declared is not None and declared.is_list:
                    target = target / str(index)
                view = self._view(item, str(target))
                views[name].append(view)
                if item.digest:
                    for place in (target, PurePosixPath(path_of(view.uri, {}))):
                        content.setdefault(place, self._store.path(item.digest))
        return [
            Mount(path, place) for place, path in content.items() if content.keys().isdisjoint(place.parents)
        ], views

    def _view(self, item: Artifact, path: str) -> View:
        """Return an input artifact as the step sees it; `path` is where its content is mounted."""
        uri, metadata = path if item.digest or not item.uri else item.uri, dict(item.metadata)
        if item.digest and self._backend.capabilities.isolates_filesystem:
            uri = item.uri if is_mounted(item.uri) else store_uri(item.digest, item.name)
            if uri.startswith("oci://") or metadata.get(IN_WORKSPACE) is True:
                path = path_of(uri, metadata)
        else:
            metadata.pop(IN_WORKSPACE, None)  # nothing is mounted at the path that the SDK makes of it
        return View(item.name, uri, path, item.type.schema_title, item.type.schema_version, metadata)

    # After

    def harvest(self) -> Outputs:
        """Return the outputs of an attempt that exited 0, published in the store.

        Raises AttemptFailed: an output is missing or invalid, or the disk is full.
        """
        outputs = self._outbox.harvest(self._publish)
        keep_told(self.folder)
        return outputs

    def _publish(self, name: str, path: Path) -> str:
        try:
            return self._store.publish(path, link=True)
        except BadContent as error:
            raise invalid(f"output artifact {name!r} {error}") from error
        except OSError as error:
            of_the_step = error.filename is not None and Path(error.filename).is_relative_to(path)
            if not of_the_step or error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
                raise
            inner = shorten(str(Path(error.filename).relative_to(path)))
            raise invalid(f"output artifact {name!r} cannot be read: {error.strerror} ({inner})") from error


def _check_words(launch: Launch) -> None:
    """Refuse what no process can be given: a NUL character ends an argument, and a long argument has no room."""
    words = {f"argument {shorten(word)}": word for word in (*launch.command, *launch.args)}
    words |= {f"variable {name}": f"{name}={value}" for name, value in launch.env.items()}  # its value may be a secret
    for place, word in words.items():
        if "\0" in word:
            raise AttemptFailed(Failure(FailureClass.USER_CODE, f"{place}: holds a NUL character"))
        if (size := len(word.encode())) >= _LONGEST_WORD:
            message = f"{place}: {size} bytes are too many for a process; pass it as an artifact"
            raise AttemptFailed(Failure(FailureClass.USER_CODE, message))

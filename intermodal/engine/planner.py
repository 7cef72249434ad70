"""Decides, for a leaf whose inputs are known, everything about its attempts: image, resources, mounts, identity.

`draft` decides and changes nothing, for `plan` too; `job` also makes what an attempt needs on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

from intermodal.engine.attempt import Plan
from intermodal.engine.backend import Backend, Image, Limits, Mount, Packages, PullPolicy
from intermodal.engine.claims import CLAIM_IMAGES
from intermodal.engine.fingerprint import Given, Identity, identify, identify_by_key
from intermodal.engine.graph import Work
from intermodal.engine.job import Job
from intermodal.engine.layout import StateFolder
from intermodal.engine.lookup import caching_off
from intermodal.engine.naming import safe_name
from intermodal.engine.once import Once
from intermodal.engine.options import Options
from intermodal.engine.placeholders import Context, resolve
from intermodal.engine.platform import Extras, resolve_extras
from intermodal.engine.python import PythonSteps
from intermodal.engine.resolve import task_names
from intermodal.engine.resources import Demand, Ledger, demand_of, parse_memory, thread_environment
from intermodal.engine.uris import WORKSPACE
from intermodal.errors import BadInput, EnvironmentProblem
from intermodal.settings import Settings
from intermodal.spec.types import Container, Pipeline, Task

_PULL: Mapping[str, PullPolicy] = {"": "missing", "IfNotPresent": "missing", "Always": "always", "Never": "never"}


def job_names(run_id: str, pipeline: Pipeline, state: StateFolder) -> dict[str, str]:
    """Return the job's placeholders for a run that begins now."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "pipeline_job_name": pipeline.name,
        "pipeline_job_resource_name": run_id,
        "pipeline_job_uuid": run_id,
        "pipeline_job_create_time_utc": now,
        "pipeline_job_schedule_time_utc": now,
        "pipeline_root": str(state.run(run_id)),
    }


@dataclass(frozen=True)
class Draft:
    """What is decided about a container leaf before anything is made for it."""

    container: Container
    image: Image
    packages: Packages | None
    demand: Demand
    limits: Limits
    extras: Extras
    claims: tuple[str, ...]
    """The claim of each of the container's volumes, in their order."""
    identity: Identity


class Planner:
    """Plans the leaves of one run."""

    def __init__(
        self,
        pipeline: Pipeline,
        run_id: str,
        names: Mapping[str, str],
        backend: Backend,
        python: PythonSteps,
        state: StateFolder,
        settings: Settings,
        ledger: Ledger,
        options: Options,
    ) -> None:
        """`names` are the job's placeholders, e.g. `pipeline_job_name`."""
        self._run = run_id
        self._backend = backend
        self._python = python
        self._state = state
        self._settings = settings
        self._ledger = ledger
        self._options = options
        self._images: Once[Image] = Once()
        self._workspace = pipeline.workspace
        self.names = dict(names)
        if self._workspace:
            # Without a container the step sees the folder where it is.
            inside = backend.capabilities.isolates_filesystem
            self.names["workspace_path"] = WORKSPACE if inside else str(state.workspace(run_id))

    def caching_off(self, task: Task, path: str) -> str | None:
        """Return why a leaf must run whatever the cache holds, None if it need not."""
        return caching_off(task, path, self._options, workspace=self._workspace)

    def resolve_images(self, pipeline: Pipeline) -> dict[str, str]:
        """Find every image that the pipeline names, so that a missing one is known before anything starts.

        Returns their content digests by the references.
        """
        found: dict[str, str] = {}
        for component in pipeline.components.values():
            container = component.implementation
            if isinstance(container, Container) and "{{" not in container.image and container.image not in CLAIM_IMAGES:
                found[container.image] = self._image(container.image, container).digest
        return found

    def _image(self, reference: str, container: Container) -> Image:
        key, policy = _image_key(reference, container), _policy(container)
        return self._images.get(key, lambda: self._backend.resolve_image(reference, policy))

    # What takes long: an image that an argument or a task's output names, and the packages of a Python component

    def missing(self, work: Work) -> str | None:
        """Return a name of what must be pulled, resolved or downloaded before `job` can decide, None if nothing must."""
        container = _container(work)
        reference = self._reference(work, container)
        key = _image_key(reference, container)
        if not self._images.knows(key):
            return key
        return self._python.missing(container.prelude, self._image(reference, container))

    def provide(self, work: Work, say: Callable[[str], None]) -> None:
        """Pull, resolve and download what the leaf is missing, and `say` so.

        Slow; safe in a thread of its own. Raises what `job` would.
        """
        container = _container(work)
        self._packages(work, container, self._image(self._reference(work, container), container), say)

    def _reference(self, work: Work, container: Container) -> str:
        context = Context(
            parameters=work.inputs.parameters,
            channels=work.inputs.channels,
            job=task_names(self.names, work.task.name, work.path),
        )
        reference = resolve(container.image, context).strip()
        if not reference:
            raise EnvironmentProblem(f"{work.path}: its image {container.image!r} came out empty")
        return reference

    def _packages(
        self, work: Work, container: Container, image: Image, say: Callable[[str], None] = lambda _: None
    ) -> Packages | None:
        try:
            return self._python.packages(container.prelude, image, say)
        except EnvironmentProblem as error:
            message = f"packages of component {work.component.label}: {error.message}"
            raise EnvironmentProblem(message, hint=error.hint) from error

    def draft(self, work: Work, find_image: Callable[[str, Container], Image] | None = None) -> Draft:
        """Decide a container leaf; nothing is made. `find_image` stands in for asking the backend.

        Raises BadInput, EnvironmentProblem (image, packages), Unsupported; where a stand-in is given PackagesUnknown, if they were
        not resolved before.
        """
        container = _container(work)
        names = task_names(self.names, work.task.name, work.path)
        context = Context(parameters=work.inputs.parameters, channels=work.inputs.channels, job=names)
        image = (find_image or self._image)(self._reference(work, container), container)
        if find_image is None:
            packages = self._packages(work, container, image)
        else:
            packages = self._python.remembered(container.prelude, image)
        demand, limits = demand_of(container.resources, context, work.path)
        shm = parse_memory(container.kubernetes.shared_memory, f"{work.path}: shared memory")
        self._ledger.check(demand, work.path)
        extras, claims = self._extras(work, container), self._claims(work, container)
        volumes = [(item.path, claim, item.sub_path) for item, claim in zip(container.volumes, claims, strict=True)]
        given = Given(extras.fields, volumes, extras.secrets, packages.identity if packages else ())
        identity = identify(work.component, container, work.inputs, image.digest, names, given)
        if work.task.cache_key:
            identity = identify_by_key(work.component, resolve(work.task.cache_key, context))
        return Draft(container, image, packages, demand, replace(limits, shm=shm), extras, claims, identity)

    def job(self, work: Work) -> Job:
        """Return the job of a container leaf, its volumes made. Raises BadInput, EnvironmentProblem (image), Unsupported."""
        draft = self.draft(work)
        container = draft.container
        label = work.component.label
        plan = Plan(
            run=self._run,
            path=work.path,
            number=0,
            component=work.component,
            container=container,
            inputs=work.inputs,
            image=draft.image,
            packages=draft.packages,
            limits=draft.limits,
            network=self._settings.network_of(label),
            relax=self._settings.relaxation_of(label),
            env=thread_environment(draft.demand.cpus),
            job=task_names(self.names, work.task.name, work.path),
            volumes=self._volumes(draft),
            extras=draft.extras,
            labels=dict(container.kubernetes.labels),
            deadline=self._deadline(label, container),
        )
        return Job(work, draft.demand, plan, draft.identity)

    def _deadline(self, label: str, container: Container) -> float | None:
        """Return the shorter of what the pipeline and what the project's settings allow one attempt, in seconds."""
        given = [container.kubernetes.deadline, self._settings.timeout.get(label)]
        return min((seconds for seconds in given if seconds is not None), default=None)

    def _claims(self, work: Work, container: Container) -> tuple[str, ...]:
        claims = []
        for volume in container.volumes:
            claim = work.scope.parameter(volume.name)
            if not isinstance(claim, str) or not claim:
                raise BadInput(f"{work.path}: the claim mounted at {volume.path} has no name")
            claims.append(claim)
        return tuple(claims)

    def _volumes(self, draft: Draft) -> tuple[Mount, ...]:
        mounts = []
        for volume, claim in zip(draft.container.volumes, draft.claims, strict=True):
            folder = self._state.volume(claim, volume.sub_path)
            mounts.append(Mount(folder, PurePosixPath(volume.path), read_only=False))
        if self._workspace:
            folder = self._state.open_workspace(self._run)
            mounts.append(Mount(folder, PurePosixPath(self.names["workspace_path"]), read_only=False))
        return tuple(mounts)

    def _extras(self, work: Work, container: Container) -> Extras:
        fields = {
            "metadata.name": safe_name(work.path),
            "metadata.namespace": "default",
            "metadata.uid": f"{self._run}/{work.path}",
        }
        return resolve_extras(container.kubernetes, self._options.configs, work.scope, fields, work.path)


def _image_key(reference: str, container: Container) -> str:
    return f"{_policy(container)} {reference}"


def _policy(container: Container) -> PullPolicy:
    written = container.kubernetes.pull_policy
    if written not in _PULL:
        raise BadInput(f"image pull policy {written!r}: must be Always, IfNotPresent or Never")
    return _PULL[written]


def _container(work: Work) -> Container:
    container = work.component.implementation
    if not isinstance(container, Container):
        raise AssertionError("only a container has attempts")
    return container

"""Which machine a task gets: from its requests to an instance type or a cluster, by the settings' table."""

from __future__ import annotations

from dataclasses import dataclass

from intermodal.backends.azureml.settings import AzureMLSettings, InstanceType
from intermodal.engine.artifacts import Inputs
from intermodal.engine.placeholders import Context, parameter_names, resolve
from intermodal.engine.resources import parse_cpus, parse_memory
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import Container, Resources


@dataclass(frozen=True)
class Place:
    """Where a node runs. Empty: as the job says."""

    compute: str = ""
    instance_type: str = ""
    shm_size: str = ""
    timeout: float | None = None
    """Seconds."""
    from_table: bool = False


def place_of(container: Container, known: Inputs, label: str, path: str, settings: AzureMLSettings) -> Place:
    """Return where a task runs. Raises Unsupported if no machine of the table would do, BadInput for a broken quantity."""
    own = settings.tasks.get(label)
    limits = [
        seconds for seconds in (container.kubernetes.deadline, own.timeout if own else None) if seconds is not None
    ]
    shared = _gigabytes(container.kubernetes.shared_memory, path)
    base = Place(shm_size=(own.shm_size if own else "") or shared, timeout=min(limits, default=None))
    if own and (own.instance_type or own.compute):
        return Place(own.compute, own.instance_type, base.shm_size, base.timeout, from_table=True)
    wanted = _Wanted.of(container.resources, known, path)
    if not wanted.anything:
        return base
    chosen = _cheapest(wanted, settings)
    if chosen is None:
        raise Unsupported(
            f"{path}: asks for {wanted}; no machine of [tool.intermodal.azureml] instance_types has that",
            hint="add one to the table, or name a compute for this component in [tool.intermodal.azureml.tasks]",
        )
    return Place(chosen.compute, chosen.instance_type, base.shm_size, base.timeout, from_table=True)


@dataclass(frozen=True)
class _Wanted:
    cpus: float
    memory: int
    accelerator: str
    accelerators: int

    @staticmethod
    def of(resources: Resources, known: Inputs, path: str) -> _Wanted:
        context = Context(parameters=known.parameters)

        def value(written: str, what: str) -> str:
            missing = parameter_names(written) - known.parameters.keys()
            if missing:
                raise Unsupported(
                    f"{path}: its {what} is an output of a task ({sorted(missing)[0]}); AzureML must know it at submission",
                    hint="make it a constant or an argument of the pipeline",
                )
            return resolve(written, context)

        cpus = [value(resources.cpu_request, "CPU request"), value(resources.cpu_limit, "CPU limit")]
        memory = [value(resources.memory_request, "memory request"), value(resources.memory_limit, "memory limit")]
        kind = value(resources.accelerator_type, "accelerator type")
        count = value(resources.accelerator_count, "accelerator count") or "1"
        if kind and not count.isdigit():
            raise BadInput(f"{path}: accelerator count {count!r} is not a whole number")
        return _Wanted(
            max((parse_cpus(text, path) or 0.0 for text in cpus), default=0.0),
            max((parse_memory(text, path) or 0 for text in memory), default=0),
            kind,
            int(count) if kind else 0,
        )

    @property
    def anything(self) -> bool:
        return bool(self.cpus or self.memory or self.accelerators)

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPUs" if self.cpus else "", f"{self.memory / 2**30:.1f} GiB" if self.memory else ""]
        parts.append(f"{self.accelerators} × {self.accelerator}" if self.accelerators else "")
        return ", ".join(part for part in parts if part)


def _cheapest(wanted: _Wanted, settings: AzureMLSettings) -> InstanceType | None:
    would_do = [
        kind
        for kind in settings.instance_types
        if kind.cpus >= wanted.cpus
        and (parse_memory(kind.memory, "instance_types: memory") or 0) >= wanted.memory
        and (
            not wanted.accelerators
            or (kind.accelerator == wanted.accelerator and kind.accelerators >= wanted.accelerators)
        )
    ]
    return min(would_do, key=lambda kind: kind.price, default=None)


def _gigabytes(written: str, path: str) -> str:
    """Return a size as AzureML wants it: a number and g, m or k."""
    size = parse_memory(written, f"{path}: shared memory")
    return f"{-(-size // 2**20)}m" if size else ""

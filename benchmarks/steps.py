"""The steps that benchmarks run: no work of their own, or an exact sleep."""

from kfp import dsl

from benchmarks.command import IMAGE


@dsl.container_component
def nothing():
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", "true"])


@dsl.container_component
def sleep(seconds: float):
    return dsl.ContainerSpec(image=IMAGE, command=["sleep"], args=[seconds])


def chain(length: int):
    """Return a pipeline of `length` steps, each after the one before."""

    @dsl.pipeline(name=f"chain-{length}")
    def pipeline():
        before = None
        for _ in range(length):
            task = nothing()
            if before is not None:
                task.after(before)
            before = task

    return pipeline


def sleeps(name: str, durations: list[float]):
    """Return a pipeline of independent sleeps."""

    @dsl.pipeline(name=name)
    def pipeline():
        for seconds in durations:
            sleep(seconds=seconds)

    return pipeline


@dsl.container_component
def write_bytes(size: int, data: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(
        image=IMAGE, command=["sh", "-c", 'head -c "$0" /dev/urandom > "$1"'], args=[size, data.path]
    )


@dsl.container_component
def count_bytes(data: dsl.Input[dsl.Dataset], size: dsl.OutputPath(int)):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'wc -c < "$0" > "$1"'], args=[data.path, size])


@dsl.pipeline(name="heavy")
def heavy(size: int = 2**30) -> int:
    return count_bytes(data=write_bytes(size=size).outputs["data"]).outputs["size"]

"""Small container components for tests: shell commands, no KFP SDK inside."""

from kfp import dsl


@dsl.container_component
def say(text: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[text, out])


@dsl.container_component
def number(value: int, out: dsl.OutputPath(int)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[value, out])


@dsl.container_component
def join(left: str, right: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(
        image="shell", command=["sh", "-c", 'printf "%s|%s" "$1" "$2" > "$3"', "sh"], args=[left, right, out]
    )


@dsl.container_component
def make(text: str, data: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(
        image="shell", command=["sh", "-c", 'mkdir "$2" && printf %s "$1" > "$2/file"', "sh"], args=[text, data.path]
    )


@dsl.container_component
def read(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'cat "$1/file" > "$2"', "sh"], args=[data.path, out])


@dsl.container_component
def shell(script: str, out: dsl.OutputPath(str)):
    """Run `script` with $1 = the path of the output."""
    return dsl.ContainerSpec(image="shell", command=["sh", "-c"], args=[script, "sh", out])


@dsl.container_component
def show_list(values: list, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[values, out])

"""KFP interface of the backbone step: `fetch` (network), `gather` and `backbone` (none)."""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components.images import image

_COMMAND = ["python", "-m", "components.backbone"]


@dsl.container_component
def fetch(name: str, model: dsl.Output[dsl.Model], endpoint: str = "https://huggingface.co"):
    """Download one backbone from the Hugging Face Hub: safetensors, configuration and tokenizer.

    Args:
        name: repository on the Hub, `owner/name`, and after `@` a branch, tag or commit (main without it).
        endpoint: address of the Hub or of a mirror.
        model: the backbone folder.
    """
    return dsl.ContainerSpec(
        image=image("backbone"),
        command=_COMMAND,
        args=["fetch", "--name", name, "--endpoint", endpoint, "--model", model.path],
    )


@dsl.container_component
def gather(fetched: dsl.Input[List[dsl.Model]], model: dsl.Output[dsl.Model]):  # noqa: UP006
    """Lay out what was fetched as one folder: KFP cannot hand what one loop collected to the inside of another.

    Args:
        fetched: what `fetch` downloaded; may be nothing.
        model: a folder of backbone folders.
    """
    return dsl.ContainerSpec(
        image=image("backbone"), command=_COMMAND, args=["gather", "--executor-input", "{{$}}", "--model", model.path]
    )


@dsl.container_component
def backbone(
    name: str,
    fetched: dsl.Input[dsl.Model],
    seed: int,
    model: dsl.Output[dsl.Model],
    local: dsl.Input[dsl.Model] = None,
):
    """Make the folder that training starts from: configuration, safetensors, tokenizer, manifest.

    Args:
        name: minilm, minilm-3, tiny, a Hub name that is among `fetched`, or local.
        fetched: what `gather` laid out; the folder whose manifest says `name` is taken.
        seed: draws the weights of a random backbone (tiny).
        local: the user's own backbone folder, for the name local.
        model: the backbone folder.
    """
    return dsl.ContainerSpec(
        image=image("backbone"),
        command=_COMMAND,
        args=[
            "materialise",
            "--name",
            name,
            "--seed",
            seed,
            "--fetched",
            fetched.path,
            dsl.IfPresentPlaceholder(input_name="local", then=["--local", local.path]),
            "--model",
            model.path,
        ],
    )

"""KFP interface of step dataset."""

from kfp import dsl

from components.images import image


@dsl.container_component
def dataset(
    dataset: dsl.Output[dsl.Dataset],
    profile: dsl.Output[dsl.Markdown],
    profile_html: dsl.Output[dsl.HTML],
    data: dsl.Input[dsl.Dataset] = None,
    size: str = "small",
    seed: int = 13,
    entity_types: list = [],  # noqa: B006 - KFP reads the default, nobody changes it
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
):
    """Make one canonical dataset of the user's folder, or of generated résumés, with a profile."""
    return dsl.ContainerSpec(
        image=image("dataset"),
        command=["python", "-m", "components.dataset"],
        args=[
            "--dataset", dataset.path,
            "--profile", profile.path,
            "--profile-html", profile_html.path,
            dsl.IfPresentPlaceholder(input_name="data", then=["--data", data.path]),
            "--size", size,
            "--seed", seed,
            "--entity-types", entity_types,
            "--validation-fraction", validation_fraction,
            "--test-fraction", test_fraction,
        ],
    )  # fmt: skip

"""KFP interface of step converter."""

from kfp import dsl

from components.images import image


@dsl.container_component
def converter(
    model: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    bundle: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    gate: dict = {},  # noqa: B006 - KFP reads the default, nobody changes it
    conversion: dict = {},  # noqa: B006
):
    """Export a trained model to ONNX: of all builds that agree with PyTorch the fastest in FP32 and in INT8.

    Args:
        model: model folder of the trainer.
        dataset: dataset folder; the gate measures on its validation split.
        bundle: model files, tokenizer, labels, manifest, usage example.
        report: every build, what the gate measured of it, how fast it is.
        metrics: sizes, agreement, change of macro-F1.
        gate: tolerances; see components/converter/README.md.
        conversion: builds; see there.
    """
    return dsl.ContainerSpec(
        image=image("converter"),
        command=["python", "-m", "components.converter"],
        args=[
            "--model", model.path,
            "--dataset", dataset.path,
            "--gate", gate,
            "--conversion", conversion,
            "--bundle", bundle.path,
            "--report", report.path,
            "--executor-output", "{{$.outputs.output_file}}",
        ],
    )  # fmt: skip

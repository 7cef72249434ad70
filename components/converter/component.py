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
):
    """Export a trained model to ONNX, FP32 and INT8, each only if it agrees with PyTorch.

    Args:
        model: model folder of the trainer.
        dataset: dataset folder; the gate measures on its validation split.
        bundle: model files, tokenizer, labels, manifest, usage example.
        report: what the gate measured.
        metrics: sizes, agreement, change of macro-F1.
        gate: tolerances; see components/converter/README.md.
    """
    return dsl.ContainerSpec(
        image=image("converter"),
        command=["python", "-m", "components.converter"],
        args=[
            "--model", model.path,
            "--dataset", dataset.path,
            "--gate", gate,
            "--bundle", bundle.path,
            "--report", report.path,
            "--executor-output", "{{$.outputs.output_file}}",
        ],
    )  # fmt: skip

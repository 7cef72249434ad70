"""KFP interface of the trainer step."""

from kfp import dsl

from components.images import image


@dsl.container_component
def trainer(
    dataset: dsl.Input[dsl.Dataset],
    backbone: dsl.Input[dsl.Model],
    hyperparameters: dict,
    training: dict,
    seed: int,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    errors: dsl.Output[dsl.HTML],
    card: dsl.Output[dsl.Markdown],
    threads: int = 0,
    warm_start: dsl.Input[dsl.Model] = None,
    state: str = "/state",
):
    """Fine-tune a backbone to find entities; keep the epoch with the best validation span macro-F1.

    Args:
        dataset: dataset folder.
        backbone: backbone folder.
        hyperparameters: learning_rate, batch_size, weight_decay, dropout, gradient_accumulation, ...
        training: epochs, patience, max_tokens, stride, ...
        seed: fixes order, dropout and new weights.
        model: the model folder.
        metrics: scores on validation, epochs, time, tokens a second, memory.
        errors: what the model gets wrong on validation, by label, length and whether training had it, with examples.
        card: the model card.
        threads: threads to compute with; 0 takes OMP_NUM_THREADS, else all cores.
        warm_start: model folder of an earlier training on the same backbone, whose weights it begins with.
        state: folder of a volume that outlives the task; a training that was killed goes on from its checkpoint there.
    """
    return dsl.ContainerSpec(
        image=image("trainer"),
        command=["python", "-m", "components.trainer"],
        args=[
            "--dataset",
            dataset.path,
            "--backbone",
            backbone.path,
            "--hyperparameters",
            hyperparameters,
            "--training",
            training,
            "--seed",
            seed,
            "--model",
            model.path,
            "--threads",
            threads,
            dsl.IfPresentPlaceholder(input_name="warm_start", then=["--warm-start", warm_start.path]),
            "--state",
            state,
            "--errors",
            errors.path,
            "--card",
            card.path,
            "--executor-output",
            "{{$.outputs.output_file}}",
        ],
    )

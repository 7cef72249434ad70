"""KFP interface of the hyperparameter search."""

from kfp import dsl

from components.images import image


@dsl.container_component
def hpo(
    dataset: dsl.Input[dsl.Dataset],
    backbone: dsl.Input[dsl.Model],
    search_space: dict,
    training: dict,
    trials: int,
    sampler: str,
    pruner: str,
    seed: int,
    best_parameters: dsl.OutputPath(dict),
    study: dsl.Output[dsl.Artifact],
    trials_table: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    state: str = "/state",
    threads: int = 0,
):
    """Search hyperparameters for one backbone with Optuna; an interrupted search goes on where it stood.

    Args:
        dataset: dataset folder.
        backbone: backbone folder.
        search_space: hyperparameter to {type, min, max, q, values}.
        training: epochs of a trial, patience, max_tokens, stride, ...
        trials: how many trials the study is to have.
        sampler: tpe or random.
        pruner: median, hyperband or none.
        seed: fixes the draws and each training.
        best_parameters: hyperparameters of the best trial.
        study: Optuna's journal and study.json.
        trials_table: CSV, one row a trial.
        summary: the search on one page.
        metrics: best score, counts of trials by their end.
        state: folder of a volume that outlives the task; the study lies in it.
        threads: threads to compute with; 0 takes OMP_NUM_THREADS, else all cores.
    """
    return dsl.ContainerSpec(
        image=image("hpo"),
        command=["python", "-m", "components.hpo"],
        args=[
            "--dataset",
            dataset.path,
            "--backbone",
            backbone.path,
            "--search-space",
            search_space,
            "--training",
            training,
            "--trials",
            trials,
            "--sampler",
            sampler,
            "--pruner",
            pruner,
            "--seed",
            seed,
            "--state",
            state,
            "--best-parameters",
            best_parameters,
            "--study",
            study.path,
            "--trials-table",
            trials_table.path,
            "--summary",
            summary.path,
            "--threads",
            threads,
            "--executor-output",
            "{{$.outputs.output_file}}",
        ],
    )

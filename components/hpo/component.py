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
    plots: dsl.Output[dsl.HTML],
    search: dict = {},  # noqa: B006 - KFP reads the default, nobody changes it
    helpers: list = [],  # noqa: B006 - KFP reads the default, nobody changes it
    state: str = "/state",
    threads: int = 0,
):
    """Search hyperparameters for one backbone with Optuna; an interrupted search goes on where it stood.

    Where workers have worked on the same study, it does what is left to do and closes the study.

    Args:
        dataset: dataset folder.
        backbone: backbone folder.
        search_space: hyperparameter to {type, min, max, q, values, when}.
        training: epochs of a trial, patience, max_tokens, stride, ...
        trials: how many trials the study is to have.
        sampler: tpe, random, gp, cmaes, qmc, grid or nsga2.
        pruner: median, percentile, hyperband, asha, patient, bandit or none.
        seed: fixes the draws and each training.
        best_parameters: hyperparameters of the best trial.
        study: Optuna's journal and study.json.
        trials_table: CSV, one row a trial.
        summary: the search on one page.
        metrics: best score, counts of trials by their end.
        plots: the study as pictures, from Optuna's own figures.
        search: folds, minutes, objectives, tolerance, pruning, study, mode, dry_run, lease_seconds.
        helpers: what the workers of the study reported; they are over before this begins.
        state: folder of a volume that outlives the task; the study lies in it, unless a secret names a database.
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
            "--plots",
            plots.path,
            "--search",
            search,
            "--helpers",
            helpers,
            "--threads",
            threads,
            "--executor-output",
            "{{$.outputs.output_file}}",
        ],
    )


@dsl.container_component
def hpo_worker(
    worker: str,
    dataset: dsl.Input[dsl.Dataset],
    backbone: dsl.Input[dsl.Model],
    search_space: dict,
    training: dict,
    trials: int,
    sampler: str,
    pruner: str,
    seed: int,
    done: dsl.OutputPath(dict),
    search: dict = {},  # noqa: B006 - KFP reads the default, nobody changes it
    state: str = "/state",
    threads: int = 0,
):
    """Work on a study beside other workers until its budget is spent; `hpo` with the same arguments closes it.

    Args:
        worker: its name among the workers, such as a number.
        dataset: dataset folder.
        backbone: backbone folder.
        search_space: as for hpo, and so all below.
        training: epochs of a trial, patience, max_tokens, stride, ...
        trials: how many trials the study is to have, of all workers.
        sampler: as for hpo.
        pruner: as for hpo.
        seed: fixes each training; which worker draws what, nobody can fix.
        done: its name and how many trials it ran.
        search: as for hpo.
        state: folder of a volume that all workers share, unless a secret names a database.
        threads: threads to compute with; 0 takes OMP_NUM_THREADS, else all cores.
    """
    return dsl.ContainerSpec(
        image=image("hpo"),
        command=["python", "-m", "components.hpo"],
        args=[
            "--worker",
            worker,
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
            "--search",
            search,
            "--state",
            state,
            "--threads",
            threads,
            "--done",
            done,
        ],
    )

"""The search space of Optuna's search as entities of `azure.ai.ml.sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.hpo.search_space import SearchSpace
from intermodal.backends.azureml.search_space import translate

if TYPE_CHECKING:
    from azure.ai.ml.entities._job.sweep.search_space import SweepDistribution


def azureml_search_space(space: SearchSpace, sampling: str = "random") -> dict[str, SweepDistribution]:
    """Return the distribution of each hyperparameter as `azure.ai.ml.sweep` has it: the same values as Optuna's, as likely.

    `sampling` is random, sobol, grid or bayesian. Raises Unsupported naming the dimension that AzureML, or this sampling of it,
    cannot express.
    """
    from azure.ai.ml import sweep

    kinds: dict[str, Any] = {
        "choice": sweep.Choice,
        "uniform": sweep.Uniform,
        "loguniform": sweep.LogUniform,
        "quniform": sweep.QUniform,
        "qloguniform": sweep.QLogUniform,
        "randint": sweep.Randint,
    }
    return {name: kinds[made["type"]](**made) for name, made in translate(space, sampling).items()}

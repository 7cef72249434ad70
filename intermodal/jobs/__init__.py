"""AzureML jobs from Python: sweep, select, train, convert, benchmark; and the assets that they read.

    from intermodal.jobs import create_hpo_sweep_job_for_backbone, submit_and_wait_for_job

Builders return entities of `azure.ai.ml`, for its `MLClient` to submit; nothing is sent before that. They know the NER steps of this
project (`components/`), so they are used in it or in a copy of it. docs/jobs.md shows each of them.
"""

from intermodal.backends.azureml.search_space import read_search_space
from intermodal.jobs.assets import ensure_data_asset_uploaded, image_environment, register_data_asset
from intermodal.jobs.conversion import create_benchmark_job, create_conversion_job
from intermodal.jobs.parts import JobUnfit
from intermodal.jobs.search_space import azureml_search_space
from intermodal.jobs.selection import BestConfiguration, select_best_configuration
from intermodal.jobs.sweep import (
    create_dry_run_sweep_job_for_backbone,
    create_hpo_sweep_job_for_backbone,
    validate_sweep_job,
)
from intermodal.jobs.tracking import Trial
from intermodal.jobs.training import (
    FinalTrainingConfig,
    build_final_training_config,
    create_final_training_job,
    get_checkpoint_output_from_training_job,
    validate_final_training_job,
)
from intermodal.jobs.waiting import FailedTask, JobFailed, JobTimedOut, submit_and_wait_for_job
from intermodal.tracking.find import FoundRun, NotOneRun, find_mlflow_run, find_mlflow_runs

__all__ = [
    "BestConfiguration",
    "FailedTask",
    "FinalTrainingConfig",
    "FoundRun",
    "JobFailed",
    "JobTimedOut",
    "JobUnfit",
    "NotOneRun",
    "Trial",
    "azureml_search_space",
    "build_final_training_config",
    "create_benchmark_job",
    "create_conversion_job",
    "create_dry_run_sweep_job_for_backbone",
    "create_final_training_job",
    "create_hpo_sweep_job_for_backbone",
    "ensure_data_asset_uploaded",
    "find_mlflow_run",
    "find_mlflow_runs",
    "get_checkpoint_output_from_training_job",
    "image_environment",
    "read_search_space",
    "register_data_asset",
    "select_best_configuration",
    "submit_and_wait_for_job",
    "validate_final_training_job",
    "validate_sweep_job",
]

"""The hand-written pipelines about values and artifacts, compiled for AzureML."""

from tests.oracle.test_data import *  # noqa: F403

del test_placeholders_of_job_and_task  # noqa: F821 - the names of a job are AzureML's own

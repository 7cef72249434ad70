"""The hand-written pipelines of the oracle's tests, compiled for AzureML: every leaf must end as the engine says."""

from tests.oracle.test_control_flow import *  # noqa: F403

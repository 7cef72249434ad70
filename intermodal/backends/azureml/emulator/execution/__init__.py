"""Runs what an AzureML job says, on a `Backend`: command, pipeline and sweep jobs, as the service does."""

"""Intermodal: one Kubeflow pipeline of containers, unchanged on Docker, AzureML and Kubeflow."""

__version__ = "0.1.0"

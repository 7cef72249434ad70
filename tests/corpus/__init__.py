"""The public corpus: every compiled pipeline of kubeflow/pipelines, run in place on a real engine and judged by the oracle.

`make conformance CORPUS=<a checkout of kubeflow/pipelines>` prints the table. No file of that repository is in this project; what is said
here about its pipelines is what they need to run on one machine, and how those end that are meant to fail.
"""

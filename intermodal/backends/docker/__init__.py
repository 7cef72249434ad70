"""Runs steps as containers on a Docker engine of this machine."""

from intermodal.backends.docker.backend import DockerBackend

__all__ = ["DockerBackend"]

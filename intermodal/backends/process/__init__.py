"""Runs the same steps without containers: plain processes, each in its step's locked environment."""

from intermodal.backends.process.backend import ProcessBackend

__all__ = ["ProcessBackend"]

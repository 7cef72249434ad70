"""Backends: where the attempts of tasks really run."""

"""Hermetic builds of the step images."""

"""Tracking: what the record of a run says, as MLflow runs. The record is the truth; this sends it, and never decides anything."""

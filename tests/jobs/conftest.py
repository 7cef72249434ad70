"""What the steps' own tests make, for jobs: documents and the smallest backbone."""

from tests.components.conftest import few_documents, run_step, step_engine, tiny_backbone

__all__ = ["few_documents", "run_step", "step_engine", "tiny_backbone"]

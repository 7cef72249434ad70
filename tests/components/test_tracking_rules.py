"""What AzureML's MLflow server does not bear: a step that starts a run of its own, or logs a model as MLflow 3 does."""

from __future__ import annotations

import ast
from pathlib import Path

COMPONENTS = Path(__file__).parents[2] / "components"
FORBIDDEN = {"start_run", "log_model", "set_experiment", "autolog"}


def _called(tree: ast.AST) -> set[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}


def test_no_step_starts_a_run_or_logs_a_model():
    files = sorted(COMPONENTS.rglob("*.py"))
    assert len(files) > 30
    assert {str(file): found for file in files if (found := _called(ast.parse(file.read_text())) & FORBIDDEN)} == {}
    assert _called(ast.parse("with mlflow.start_run() as r: mlflow.x.log_model(m)")) & FORBIDDEN == {
        "start_run",
        "log_model",
    }

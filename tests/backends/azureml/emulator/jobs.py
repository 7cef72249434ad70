"""Bodies of jobs as the client writes them, from few words."""

from __future__ import annotations

from typing import Any

IMAGE = "intermodal/base:dev"


def component(command: str, inputs: dict[str, Any] | None = None, outputs: dict[str, str] | None = None, **more: Any):
    """A command component's specification; an input is its type or its declaration."""
    declared = {name: {"type": item} if isinstance(item, str) else item for name, item in (inputs or {}).items()}
    return {
        "type": "command",
        "command": command,
        "environment": "env",
        "inputs": declared,
        "outputs": {name: {"type": kind} for name, kind in (outputs or {}).items()},
        **more,
    }


def node(
    spec: dict[str, Any] | str, inputs: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None, **more
):
    """A node; an input is a text (literal or binding), or the whole value."""
    given = {
        name: {"value": item, "job_input_type": "literal"} if isinstance(item, str) else item
        for name, item in (inputs or {}).items()
    }
    to = {
        name: {"value": item, "type": "literal"} if isinstance(item, str) else item
        for name, item in (outputs or {}).items()
    }
    return {"type": "command", "componentId": spec, "inputs": given, "outputs": to, **more}


def pipeline(
    jobs: dict[str, Any], inputs: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None, **settings
):
    """A pipeline job; an input is a literal, or the whole value."""
    given = {
        name: item if isinstance(item, dict) else {"value": str(item), "jobInputType": "literal"}
        for name, item in (inputs or {}).items()
    }
    properties = {
        "jobType": "Pipeline",
        "experimentName": "trial",
        "jobs": jobs,
        "inputs": given,
        "outputs": outputs or {},
        "settings": settings,
    }
    return {"properties": properties}


def out(name: str, port: str) -> str:
    return f"${{{{parent.jobs.{name}.outputs.{port}}}}}"

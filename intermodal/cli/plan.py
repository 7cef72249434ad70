"""`intermodal plan PIPELINE`: what a run would do, and why, before it does it. Starts nothing, records nothing.

Exit 0 if the pipeline could be planned, whatever the plan says; else as `run` would refuse it.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from intermodal.cli.backends import chosen_backend
from intermodal.cli.run import add_request_arguments, read_options, read_request, read_settings
from intermodal.cli.text import duration
from intermodal.engine.forecast import Expected, Verdict
from intermodal.engine.plan import RunPlan, make_plan

HELP = "say what a run would do: what is cached, what runs and why"
_COUNTS = {
    Verdict.RUN: "to run",
    Verdict.CACHED: "cached",
    Verdict.UNKNOWN: "not known yet",
    Verdict.SKIP: "skipped",
    Verdict.FAIL: "failing",
}


def configure(parser: argparse.ArgumentParser) -> None:
    add_request_arguments(parser)
    parser.add_argument("--json", action="store_true", help="the plan as JSON")


def run(args: argparse.Namespace) -> int:
    options, request = read_options(args), read_request(args)
    settings = read_settings(args, request)
    backend = chosen_backend(args.backend, request.project, args.state, settings)
    try:
        plan = make_plan(request, args.state, backend, settings, options)
    finally:
        backend.close()
    if args.json:
        print(json.dumps(_document(plan), indent=2, ensure_ascii=False))
    else:
        _print(plan)
    return 0


def _print(plan: RunPlan) -> None:
    print(f"plan of {plan.pipeline}: nothing is started")
    width = max((len(task.path) for task in plan.tasks), default=0)
    for task in plan.tasks:
        took = duration(task.seconds) if task.seconds is not None and task.verdict is not Verdict.CACHED else ""
        lead = f"  {task.verdict:<8}{task.path:<{width}}"
        print(f"{lead} {took:>7}  {_reason(task)}".rstrip())
        for change in task.changes:
            print(f"{'':{len(lead) + 9}} {change.text}")
    print(_summary(plan))


def _reason(task: Expected) -> str:
    return f"from {task.cached_from}" if task.cached_from else task.reason


def _summary(plan: RunPlan) -> str:
    counts = [f"{len(found)} {word}" for verdict, word in _COUNTS.items() if (found := plan.of(verdict))]
    line = f"{len(plan.tasks)} task{'' if len(plan.tasks) == 1 else 's'}: {', '.join(counts) or 'nothing to do'}"
    if not plan.of(Verdict.RUN) and not plan.of(Verdict.UNKNOWN):
        return line
    times = []
    if plan.at_most > 0:
        times.append(f"about {duration(plan.seconds)}")
        if plan.at_most > plan.seconds:
            times.append(f"at most {duration(plan.at_most)}")
    if plan.unmeasured:
        count = len(plan.unmeasured)
        times.append(f"{'and ' if times else ''}no time is known of {count} task{'' if count == 1 else 's'}")
    return f"{line}; {', '.join(times)}"


def _document(plan: RunPlan) -> dict[str, Any]:
    return {
        "pipeline": plan.pipeline,
        "seconds": round(plan.seconds, 3),
        "at_most": round(plan.at_most, 3),
        "unmeasured": list(plan.unmeasured),
        "tasks": [
            {
                "path": task.path,
                "component": task.component.removeprefix("comp-"),
                "verdict": task.verdict.value,
                "reason": task.reason,
                "changes": [change.as_json() for change in task.changes],
                "seconds": task.seconds,
                "cached_from": task.cached_from,
                "waits_for": list(task.waits_for),
            }
            for task in plan.tasks
        ],
    }

"""Sweeps, on this machine's processes: sampling, limits, the best trial and its outputs, early termination."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.azureml.emulator.execution.sampling import points, read_space
from intermodal.backends.azureml.emulator.execution.termination import read_policy
from intermodal.errors import IntermodalError
from tests.backends.azureml.emulator.conftest import Start
from tests.backends.azureml.emulator.jobs import component, node, out, pipeline
from tests.backends.azureml.emulator.plane import FolderPlane
from tests.support.host import HostBackend

TRIAL = component(
    "sleep 0.3; echo metric score ${{inputs.x}}; echo ${{inputs.x}} ${{inputs.fixed}} > ${{outputs.model}}/value",
    {"x": "number", "fixed": "string"},
    {"model": "uri_folder"},
)
SWEEP = {
    "type": "sweep",
    "trial": {"componentId": TRIAL},
    "inputs": {"fixed": {"value": "f", "job_input_type": "literal"}},
    "search_space": {"x": {"type": "choice", "values": [3, 1, 4, 2]}},
    "sampling_algorithm": "grid",
    "objective": {"goal": "maximize", "primary_metric": "score"},
    "limits": {"max_total_trials": 10, "max_concurrent_trials": 2},
}


def sweep_job(command: str, space: dict[str, Any], **properties: Any) -> dict[str, Any]:
    body = {
        "jobType": "Sweep",
        "trial": {"command": command, "environmentId": "env"},
        "searchSpace": space,
        "samplingAlgorithm": {"samplingAlgorithmType": "Grid"},
        "objective": {"goal": "minimize", "primaryMetric": "loss"},
        "limits": {"jobLimitsType": "Sweep", "maxTotalTrials": 8, "maxConcurrentTrials": 8},
        **properties,
    }
    return {"properties": body}


def test_a_sweep_node_gives_the_outputs_of_its_best_trial(start: Start, plane: FolderPlane):
    backend = HostBackend()
    executor = start(backend)
    where = {"uri": "azureml://datastores/d/paths/best", "jobOutputType": "uri_folder"}
    last = component("cat ${{inputs.model}}/value", {"model": "uri_folder"})
    jobs = {
        "sweep": {**SWEEP, "outputs": {"model": {"value": "${{parent.outputs.best}}", "type": "literal"}}},
        "last": node(last, {"model": out("sweep", "model")}),
    }
    executor.submit("job", pipeline(jobs, {}, {"best": where}))
    done = plane.wait("job")
    assert done.error is None and done.outputs == {"best": where["uri"]}
    assert plane.log("last") == "4 f\n" and plane.content(where["uri"]) == {"value": "4 f\n"}
    sweep, nodes = plane.nodes()["sweep"], plane.nodes()
    trials = [child for child in plane.children.values() if child.name.startswith("trial_")]
    best = next(child for child in trials if child.id == sweep.properties["best_child_run_id"])
    assert json.loads(plane.runs[best.id].tags["hyperparameters"]) == {"x": 4} and sweep.properties["score"] == "4.0"
    assert len(trials) == 4 and all(nodes[f"sweep/{child.name}"].state == "Completed" for child in trials)
    assert backend.most == 2


def test_a_sweep_job_and_trials_that_fail(host: JobExecutor, plane: FolderPlane):
    command = "echo metric loss ${{search_space.lr}}; test ${{search_space.lr}} != 1; exit $?"
    outputs = {"model": {"jobOutputType": "uri_folder"}}
    host.submit(
        "job",
        sweep_job(f"echo x > ${{{{outputs.model}}}}/x; {command}", {"lr": ["choice", [[1, 2, 3]]]}, outputs=outputs),
    )
    done = plane.wait("job")
    assert done.state == "Completed" and done.properties == {"best_child_run_id": "job_1", "score": "2.0"}
    assert plane.content(done.outputs["model"]) == {"x": "x\n"}
    assert plane.runs["job_0"].state == "Failed"


@pytest.mark.parametrize(
    ("command", "more", "error"),
    [
        ("exit 4", {}, "no trial gave a result; 0 failed: exit code 4"),
        ("true", {}, "none of 2 trials reported 'loss'"),
        ("true", {"objective": {}}, "job: its objective names no metric, or no goal (minimize, maximize)"),
        (
            "true",
            {"searchSpace": {"lr": ["uniform", [0, 1]]}},
            "job: grid sampling needs choices only, and 'lr' is uniform",
        ),
        ("true", {"earlyTermination": {"policyType": "Other"}}, "job: early termination policy 'Other' is not known"),
    ],
)
def test_a_sweep_without_a_result(host: JobExecutor, plane: FolderPlane, command: str, more, error: str):
    host.submit("job", sweep_job(command, {"lr": ["choice", [[1, 2]]]}, **more))
    done = plane.wait("job")
    assert done.state == "Failed" and done.error == error


def test_a_bandit_ends_trials_that_lag_behind(host: JobExecutor, plane: FolderPlane):
    command = "for i in 1 2 3; do echo metric loss ${{search_space.x}}; sleep 1; done; test ${{search_space.x}} = 1 || sleep 60"
    policy = {"policyType": "Bandit", "slackFactor": 0.5, "evaluationInterval": 1, "delayEvaluation": 1}
    host.submit("job", sweep_job(command, {"x": ["choice", [[1, 5]]]}, earlyTermination=policy))
    done = plane.wait("job", 50)
    assert done.state == "Completed" and done.properties["best_child_run_id"] == "job_0"
    assert plane.runs["job_1"].state == "Canceled" and "bandit" in plane.runs["job_1"].tags["early_termination"]


def test_limits_of_time_and_cancel(host: JobExecutor, plane: FolderPlane):
    limits = {"maxTotalTrials": 5, "maxConcurrentTrials": 1, "timeout": "PT2S"}
    host.submit(
        "slow", sweep_job("echo metric loss 1; sleep ${{search_space.x}}", {"x": ["choice", [[0, 60]]]}, limits=limits)
    )
    assert (
        plane.wait("slow", 30).properties["best_child_run_id"] == "slow_0" and plane.runs["slow_1"].state == "Canceled"
    )
    host.submit("job", pipeline({"s": {**SWEEP, "trial": {"componentId": {**TRIAL, "command": "sleep 60"}}}}))
    plane.wait_for_state("s/trial_0", "Running")
    host.cancel("job")
    assert plane.wait("job", 20).state == "Canceled"
    assert {run.state for name, run in plane.nodes().items() if name.startswith("s")} == {"Canceled"}


def draw(spec: Any, number: int = 2000) -> list[Any]:
    space = read_space({"x": spec}, "sweep")
    return [point["x"] for point in itertools.islice(points(space, "random", 7, "sweep"), number)]


def test_distributions():
    uniform = draw({"type": "uniform", "min_value": 2, "max_value": 4})
    assert min(uniform) >= 2 and max(uniform) <= 4 and 2.9 < sum(uniform) / len(uniform) < 3.1
    rates = draw(["loguniform", [math.log(1e-5), math.log(1e-2)]])
    assert min(rates) >= 1e-5 and max(rates) <= 1e-2 and sum(rate < 10**-3.5 for rate in rates) in range(900, 1100)
    assert {*draw(["quniform", [0, 10, 5]])} == {0.0, 5.0, 10.0}
    assert {*draw(["qloguniform", [0, math.log(8), 2]])} <= {0.0, 2.0, 4.0, 6.0, 8.0}
    assert {*draw({"type": "randint", "upper": 3})} == {0, 1, 2}
    assert {*draw({"type": "choice", "values": ["a", True]})} == {"a", True}
    normal = draw(["normal", [5, 1]])
    assert 4.9 < sum(normal) / len(normal) < 5.1
    assert min(draw(["lognormal", [0, 1]])) > 0 and all(value % 1 == 0 for value in draw(["qnormal", [5, 3, 1]]))
    assert draw(["uniform", [0, 1]]) == draw(["uniform", [0, 1]])  # a seed means what it says


@pytest.mark.parametrize(
    "spec", [["uniform", [1]], {"type": "beta"}, "x", {"type": "choice", "values": [{"a": 1}]}, ["choice", [[]]]]
)
def test_what_is_no_search_space(spec: Any):
    with pytest.raises(IntermodalError, match="sweep: search space of 'x': "):
        read_space({"x": spec}, "sweep")


@pytest.mark.parametrize(
    ("policy", "goal", "ended"),
    [
        ({"policy_type": "Bandit", "slack_factor": 0.1}, 1, {"c", "d"}),
        ({"policy_type": "Bandit", "slack_amount": 0.35}, 1, {"d"}),
        ({"policy_type": "Bandit", "slack_factor": 1.5}, -1, {"a", "b", "c"}),
        ({"policy_type": "MedianStopping"}, 1, {"c", "d"}),
        ({"policy_type": "TruncationSelection", "truncation_percentage": 25}, 1, {"d"}),
        ({"type": "truncation_selection", "truncation_percentage": 50}, -1, {"a", "b"}),
    ],
)
def test_policies(policy: dict[str, Any], goal: int, ended: set[str]):
    reported = {"a": [0.9], "b": [0.85], "c": [0.7], "d": [0.2], "e": []}
    made = read_policy(policy, goal, "sweep")
    assert made is not None
    assert {trial for trial in reported if made.ends(trial, 1, reported, frozenset())} == ended


def test_when_a_policy_is_due():
    policy = read_policy(
        {"policy_type": "Bandit", "evaluation_interval": 2, "delay_evaluation": 5, "slack_amount": 1}, 1, "s"
    )
    assert policy is not None and [interval for interval in range(12) if policy.due(interval)] == [7, 9, 11]

"""Pipelines whose steps tell of their training; compiled once, run by the process backend."""

from kfp import dsl, kubernetes

IMAGE = "intermodal/echo:dev"
TELL = """
import json, os, sys, time
from pathlib import Path
def tell(**line):
    with open(os.environ["INTERMODAL_TRACKING_FILE"], "a") as file:
        file.write(json.dumps({"time": 1700000000000, **line}) + "\\n")
"""

_TRAIN = f"""{TELL}
score, report = sys.argv[1:3]
tell(params={{"lr": 0.1, "backbone": "tiny"}})
for step in range(1, 6):
    tell(step=step, metrics={{"loss": 1.0 / step, "diverged": float("nan")}})
for number, state in enumerate(["COMPLETE", "PRUNED", "FAIL", None]):
    tell(trial=number, study="s-1", state="RUNNING", params={{"lr": number / 10}})
    tell(trial=number, step=1, metrics={{"f1": 0.5 + number / 10}})
    state and tell(trial=number, state=state)
Path(score).write_text("0.75")
Path(report).write_text(json.dumps(
    {{"artifacts": {{"metrics": {{"artifacts": [{{"name": "metrics", "metadata": {{"accuracy": 0.9, "note": "x"}}}}]}}}}}}))
"""

_PATIENT = f"""{TELL}
go = Path(sys.argv[1])
tell(step=1, metrics={{"loss": 1.0}})
tell(trial=0, state="RUNNING")
tell(tags={{"told": os.environ.get("MLFLOW_RUN_ID", "")}})
while not go.exists():
    time.sleep(0.05)
tell(step=2, metrics={{"loss": 0.5}})
tell(trial=0, state="COMPLETE")
"""


@dsl.container_component
def train(lr: float, data: dsl.Input[dsl.Dataset], score: dsl.OutputPath(float), metrics: dsl.Output[dsl.Metrics]):
    report = dsl.PIPELINE_TASK_EXECUTOR_OUTPUT_PATH_PLACEHOLDER
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-c", _TRAIN], args=[score, report, lr])


@dsl.container_component
def bury():
    code = f'{TELL}tell(trial=3, study="s-1", state="FAIL")'
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-c", code])


@dsl.container_component
def broken():
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-c", "import sys; sys.exit(3)"])


@dsl.container_component
def wait(go: str):
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-c", _PATIENT], args=[go])


@dsl.pipeline(name="study")
def study(data: dsl.Input[dsl.Dataset], lr: float = 0.3, breaks: bool = False):
    """A step that tells of curves and trials; one that fails twice, if it is asked to."""
    trained = train(lr=lr, data=data)
    kubernetes.use_secret_as_env(trained, "keys", {"token": "TOKEN"})
    bury().after(trained)  # another worker, that finds a trial whose worker is gone
    with dsl.If(breaks == True):  # noqa: E712 - the SDK's way
        broken().set_retry(1).after(trained)


@dsl.pipeline(name="doomed")
def doomed(go: str):
    """A pipeline whose experiment somebody deleted on the server."""
    wait(go=go)


@dsl.pipeline(name="patient")
def patient(go: str):
    """A step that waits for a file."""
    wait(go=go)

"""Pipelines whose steps leave word of each thing they do in a ledger on a claim, so that work that was done twice is seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

LEDGER = "ledger"
PRELUDE = """
import json, os, sys, time
from pathlib import Path
place = lambda path: Path(json.loads(os.environ.get("INTERMODAL_MOUNTS", "{}")).get(path, path))
name, *argv = sys.argv[1:]
def note(word):
    with (place("/ledger") / "log").open("a") as ledger:
        ledger.write(f"{name} {word}\\n")
def seen(word):
    return (place("/ledger") / "log").read_text().splitlines().count(f"{name} {word}")
note("begin")
"""


def step(image: str, code: str, name: str, *arguments: Any) -> dsl.ContainerSpec:
    """Return a step that notes its begin and its end around `code`, which finds the arguments in `argv`."""
    command = ["python3", "-c", f'{PRELUDE}{code}\nnote("end")\n']
    return dsl.ContainerSpec(image=image, command=command, args=[name, *arguments])


def components(image: str) -> dict[str, Callable[..., Any]]:
    """Return the steps, to run in `image`."""

    @dsl.container_component
    def make(data: dsl.Output[dsl.Dataset], size: dsl.OutputPath(int)):
        code = """
folder = Path(argv[0])
(folder / "deep" / "empty").mkdir(parents=True)
(folder / "a").write_text("a" * 1000)
(folder / "deep" / "b").write_text("b")
Path(argv[1]).write_text("1001")
"""
        return step(image, code, "make", data.path, size)

    @dsl.container_component
    def work(n: int, data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str), made: dsl.Output[dsl.Artifact]):
        code = """
name = f"{name}-{argv[0]}"
note("work")
source = Path(argv[1])
files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
Path(argv[2]).write_text(f"{name}:{sum(path.stat().st_size for path in files)}")
Path(argv[3]).write_text(name)
"""
        return step(image, code, "work", n, data.path, out, made.path)

    @dsl.container_component
    def flaky(out: dsl.OutputPath(str)):
        return step(image, 'seen("begin") > 1 or sys.exit(3)\nPath(argv[0]).write_text("ok")', "flaky", out)

    @dsl.container_component
    def join(values: list, out: dsl.OutputPath(str)):
        return step(image, 'Path(argv[1]).write_text("+".join(json.loads(argv[0])))', "join", values, out)

    @dsl.container_component
    def keep(out: dsl.OutputPath(str)):
        code = 'file = place("/scratch") / "file"; file.write_text("kept"); Path(argv[0]).write_text(file.read_text())'
        return step(image, code, "keep", out)

    @dsl.container_component
    def tell(status: dsl.PipelineTaskFinalStatus, out: dsl.OutputPath(str)):
        return step(image, 'Path(argv[1]).write_text(json.loads(argv[0])["state"])', "tell", status, out)

    return {item.component_spec.name: item for item in (make, work, flaky, join, keep, tell)}


def on_ledger(task: Any) -> Any:
    return kubernetes.mount_pvc(task, LEDGER, "/ledger")


def small(image: str) -> Any:
    """A step, two together that take its artifact, one that fails once beside them, and one that joins them."""
    steps = components(image)

    @dsl.pipeline(name="small")
    def pipeline() -> str:
        made = on_ledger(steps["make"]())
        on_ledger(steps["flaky"]()).set_retry(1, backoff_duration="0s")
        with dsl.ParallelFor([1, 2]) as n:
            worked = on_ledger(steps["work"](n=n, data=made.outputs["data"]))
        return on_ledger(steps["join"](values=dsl.Collected(worked.outputs["out"]))).outputs["out"]

    return pipeline


def rich(image: str) -> Any:
    """Everything that a run can be in the middle of: loops, branches, nested pipelines, claims, importers, retries, exit tasks."""
    steps = components(image)

    @dsl.pipeline(name="nested")
    def nested(data: dsl.Input[dsl.Dataset]) -> str:
        return on_ledger(steps["work"](n=9, data=data)).outputs["out"]

    @dsl.pipeline(name="rich")
    def pipeline(source: str):
        with dsl.ExitHandler(on_ledger(steps["tell"]())):
            claim = kubernetes.CreatePVC(
                pvc_name_suffix="scratch", access_modes=["ReadWriteOnce"], size="1Gi", storage_class_name="x"
            )
            kept = on_ledger(steps["keep"]())
            kubernetes.mount_pvc(kept, claim.outputs["name"], "/scratch")
            kubernetes.DeletePVC(pvc_name=claim.outputs["name"]).after(kept)
            imported = dsl.importer(artifact_uri=source, artifact_class=dsl.Dataset, reimport=False)
            made = on_ledger(steps["make"]())
            with dsl.ParallelFor([1, 2, 3], parallelism=2) as n:
                worked = on_ledger(steps["work"](n=n, data=made.outputs["data"]))
            tried = on_ledger(steps["flaky"]()).set_retry(1, backoff_duration="0s")
            with dsl.If(tried.outputs["out"] == "ok"):
                on_ledger(steps["work"](n=7, data=imported.output))
            with dsl.Else():
                on_ledger(steps["work"](n=8, data=imported.output))
            nested(data=made.outputs["data"])
            on_ledger(steps["join"](values=dsl.Collected(worked.outputs["out"])))

    return pipeline


def plain(image: str, name: str, code: str = "") -> Any:
    """Return a step without inputs that does `code` and says its name."""

    def body(out: dsl.OutputPath(str)):
        return step(image, f'{code}\nPath(argv[0]).write_text("{name}")', name, out)

    body.__name__ = name
    return dsl.container_component(body)


AWAIT_GO = """
while not (place("/ledger") / "go").exists():
    time.sleep(0.05)
"""


def heavy(image: str) -> Any:
    """A step, and after it one that writes six megabytes once a file `go` lies beside the ledger."""

    @dsl.container_component
    def load(data: dsl.Output[dsl.Dataset]):
        return step(image, AWAIT_GO + 'Path(argv[0]).write_bytes(b"x" * 6 * 2**20)', "load", data.path)

    @dsl.pipeline(name="heavy")
    def pipeline():
        on_ledger(load()).after(on_ledger(plain(image, "light")()))

    return pipeline


def crowd(image: str) -> Any:
    """Two steps, for many runners at once: one writes an artifact of what it is told, one reads it."""

    @dsl.container_component
    def tell(text: str, data: dsl.Output[dsl.Dataset]):
        code = "folder = Path(argv[1])\nfolder.mkdir()\nfor n in range(20): (folder / str(n)).write_text(argv[0] * 999)"
        return step(image, code, "tell", text, data.path)

    @dsl.container_component
    def hear(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
        code = (
            'Path(argv[1]).write_text("".join(sorted({(Path(argv[0]) / str(n)).read_text()[:9] for n in range(20)})))'
        )
        return step(image, code, "hear", data.path, out)

    @dsl.pipeline(name="crowd")
    def pipeline(text: str) -> str:
        return on_ledger(hear(data=on_ledger(tell(text=text)).outputs["data"])).outputs["out"]

    return pipeline


def mend(image: str) -> Any:
    """A step fails until a file `go` lies beside the ledger; one is skipped by that, one runs all the same, and one tells of it."""
    fragile = plain(image, "fragile", '(place("/ledger") / "go").exists() or sys.exit(4)')

    @dsl.pipeline(name="mend")
    def pipeline():
        with dsl.ExitHandler(on_ledger(components(image)["tell"]())):
            broken = on_ledger(fragile()).after(on_ledger(plain(image, "light")()))
            on_ledger(plain(image, "follow")()).after(broken)
            on_ledger(plain(image, "clean")()).after(broken).ignore_upstream_failure()

    return pipeline


def secret(image: str) -> Any:
    """A step that waits for `go` and then looks whether it was given its secret, in both ways."""
    code = 'assert os.environ["TOKEN"] == (place("/secrets") / "token").read_text()'

    @dsl.pipeline(name="secret")
    def pipeline():
        task = on_ledger(plain(image, "user", AWAIT_GO + code)())
        kubernetes.use_secret_as_env(task, "vault", {"token": "TOKEN"})
        kubernetes.use_secret_as_volume(task, "vault", "/secrets")

    return pipeline


def compiled(pipeline: Any, folder: Path) -> Path:
    """Return the pipeline as IR YAML."""
    path = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return path

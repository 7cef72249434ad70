"""The peer `kfp.local` 2.17: the same pipelines as its users run them. Also a script: `python kfp_local.py three|loop`.

It runs in an environment of its own with pip in it, which its SubprocessRunner needs.
"""

import subprocess
import sys
from pathlib import Path

from kfp import dsl

IMAGE = "intermodal/base:dev"
"""Said again here: as a script this file has nothing of ours."""


@dsl.component(base_image=IMAGE)
def nap(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


@dsl.container_component
def sleep(seconds: float):
    return dsl.ContainerSpec(image=IMAGE, command=["sleep"], args=[seconds])


@dsl.pipeline(name="three-sleeps")
def three():
    for _ in range(3):
        sleep(seconds=3.0)


@dsl.pipeline(name="six-naps")
def loop():
    with dsl.ParallelFor(items=[2.0] * 6, parallelism=6) as seconds:
        nap(seconds=seconds)


def environment(folder: Path) -> Path:
    """Make a Python with kfp 2.17.0, docker and pip; return its path."""
    python = folder / "peer" / "bin" / "python"
    from intermodal.build.pip import read_pip_configuration
    from intermodal.build.venv import find_uv

    uv, variables = find_uv(Path.cwd()), read_pip_configuration().uv_environment()
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder / "peer")], check=True)
    packages = ["kfp==2.17.0", "docker>=7.2,<8", "setuptools", "wheel"]
    command = [uv, "pip", "install", "--quiet", "--python", str(python), *packages]
    subprocess.run(command, check=True, env=variables)
    return python


def run(python: Path, name: str, folder: Path) -> None:
    """Run one of the pipelines with kfp.local. Raises CalledProcessError if it fails."""
    subprocess.run([str(python), "-W", "ignore", __file__, name], check=True, cwd=folder, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    from kfp import local

    if sys.argv[1] == "three":
        local.init(runner=local.DockerRunner(), pipeline_root="three")
        three()
    else:
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="loop")
        loop()

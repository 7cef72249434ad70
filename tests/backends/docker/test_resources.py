"""What a pipeline asks of the machine, as the step's container has it: from the pipeline's own words to the kernel's."""

import pytest
from kfp import dsl, kubernetes

from intermodal.engine.backend import Limits
from intermodal.engine.failure import AttemptFailed, FailureClass
from tests.backends.docker.support import BASE
from tests.trust.conftest import Command

pytestmark = pytest.mark.engine

LOOK = """
import json, os, sys
def read(*paths):
    for path in paths:
        try:
            return open(path).read().split()[0]
        except OSError:
            pass
def cpus():
    both = open("/sys/fs/cgroup/cpu.max").read().split() if os.path.exists("/sys/fs/cgroup/cpu.max") else [
        read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")]
    return None if both[0] in ("max", "-1") else int(both[0]) / int(both[1])
memory = int(read("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes").replace("max", str(2**62)))
shm = os.statvfs("/dev/shm")
with open(sys.argv[1], "w") as stream:
    json.dump({"cpus": cpus(), "memory": memory, "shm": shm.f_blocks * shm.f_frsize,
               "threads": os.environ.get("OMP_NUM_THREADS"), "gpu": os.path.exists("/dev/nvidia0")}, stream)
"""


@dsl.container_component
def look(out: dsl.OutputPath(dict)):
    return dsl.ContainerSpec(image=BASE, command=["python3", "-c", LOOK], args=[out])


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path)


def test_limits_requests_and_shared_memory(command: Command):
    @dsl.pipeline(name="p")
    def pipeline(memory: str = "96Mi"):
        limited = look().set_cpu_limit("500m").set_memory_limit(memory)
        kubernetes.empty_dir_mount(
            limited, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit="32Mi"
        )
        look().set_cpu_request("1").set_memory_request("64Mi")

    done = command.run(pipeline)
    assert done.code == 0, done.err
    limited, requested = (done.task(name)["outputs"]["parameters"]["out"] for name in ("look", "look-2"))
    assert (limited["cpus"], limited["memory"], limited["threads"]) == (0.5, 96 * 2**20, "1")
    assert (limited["shm"], requested["shm"]) == (32 * 2**20, 64 * 2**20)
    # A request is kept free for the step, and caps nothing.
    assert requested["cpus"] is None
    assert requested["memory"] > 96 * 2**20
    assert requested["threads"] == "1"
    assert done.record["attempts"]


def test_a_gpu_is_never_silently_a_cpu(command: Command):
    @dsl.pipeline(name="p")
    def pipeline():
        look().set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(64)

    done = command.run(pipeline)
    assert done.code == 2
    assert "look: asks for" in done.err and "64 GPUs; this machine has" in done.err
    assert done.record == {}, "nothing was started"


def test_another_accelerator_is_refused(command: Command):
    @dsl.pipeline(name="p")
    def pipeline():
        look().set_accelerator_type("amd.com/gpu").set_accelerator_limit(1)

    done = command.run(pipeline)
    assert done.code == 4
    assert "look: accelerator 'amd.com/gpu' is not supported" in done.err


def test_an_engine_without_gpus_says_so(docker):
    if "nvidia" in docker.backend._client.info()["Runtimes"]:
        pytest.skip("this engine gives GPUs")
    with pytest.raises(AttemptFailed, match="asks for 1 GPU, and the engine cannot give any") as caught:
        docker.backend.start(docker.launch("true", limits=Limits(gpus=1)))
    assert caught.value.failure.kind is FailureClass.IMAGE
    label = {"label": f"io.intermodal.run={docker.run_id}"}
    assert docker.backend._client.containers(all=True, filters=label) == []

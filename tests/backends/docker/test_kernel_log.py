"""The kernel's log: who was killed for memory, whatever the engine noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from intermodal.backends.docker.kernel import KERNEL_LOG, KernelLog

FIRST, SECOND = "0123456789abcdef" * 4, "fedcba9876543210" * 4
RECORD = (
    "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={0},mems_allowed=0,oom_memcg=/docker/{0},"
    "task_memcg=/docker/{0},task=python3,pid=7,uid=0\n SUBSYSTEM=x\n"
)
SCOPE = "6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,global_oom,task_memcg=/system.slice/docker-{0}.scope,task=x,pid=7,uid=0\n"


@pytest.mark.parametrize("record", [RECORD, SCOPE])
def test_a_container_in_which_something_was_killed_is_known(tmp_path: Path, record: str):
    path = tmp_path / "log"
    path.write_text(f"6,1,2,-;docker0: port 1({SECOND}) entered blocking state\n")
    log = KernelLog(path)
    assert not log.killed_in(FIRST)
    with path.open("a") as stream:
        stream.write(record.format(FIRST))
    assert log.killed_in(FIRST) and log.killed_in(FIRST) and not log.killed_in(SECOND)
    log.close()


def test_where_it_cannot_be_read_nothing_is_known(tmp_path: Path):
    assert not KernelLog(tmp_path / "none").killed_in(FIRST)


@pytest.mark.skipif(not os.access(KERNEL_LOG, os.R_OK), reason="only root may read the kernel's log (CI is root)")
def test_the_real_log_is_read_to_its_end_without_waiting():
    log = KernelLog()
    assert not log.killed_in(FIRST)
    log.close()

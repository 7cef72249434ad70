"""Quantities, limits and the ledger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.engine.placeholders import Context
from intermodal.engine.resources import Demand, Ledger, demand_of, machine, parse_cpus, parse_memory, thread_environment
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import Resources


@pytest.mark.parametrize(("written", "cpus"), [("2", 2), ("0.5", 0.5), ("500m", 0.5), ("", None), ("1e1", 10)])
def test_cpus(written: str, cpus: float | None):
    assert parse_cpus(written, "t") == cpus


@pytest.mark.parametrize(
    ("written", "amount"),
    [("4Gi", 4 * 2**30), ("512Mi", 2**29), ("2G", 2 * 10**9), ("1.5Gi", 3 * 2**29), ("1000", 1000), ("", None)],
)
def test_memory(written: str, amount: int | None):
    assert parse_memory(written, "t") == amount


@pytest.mark.parametrize("written", ["two", "-1", "0", "1Gi", "1 000"])
def test_what_is_no_number_of_cpus_is_named(written: str):
    with pytest.raises(BadInput, match="task x"):
        parse_cpus(written, "task x")


@pytest.mark.parametrize("written", ["many", "-1Gi", "1GB", "1m"])
def test_what_is_no_amount_of_memory_is_named(written: str):
    with pytest.raises(BadInput, match="task x"):
        parse_memory(written, "task x")


def test_the_request_is_reserved_and_the_limit_caps():
    context = Context(parameters={}, channels={"c": "3"})
    asked = Resources(cpu_request="{{$.inputs.parameters['c']}}", memory_request="1Gi", memory_limit="2Gi")
    demand, limits = demand_of(asked, context, "t")
    assert demand == Demand(3.0, 2**30)
    assert (limits.cpus, limits.memory) == (None, 2**31)
    demand, limits = demand_of(Resources(cpu_limit="500m"), context, "t")
    assert (demand.cpus, limits.cpus) == (0.5, 0.5)
    demand, _ = demand_of(Resources(accelerator_type="nvidia.com/gpu", accelerator_count="2"), context, "t")
    assert demand.gpus == 2


@pytest.mark.parametrize(
    ("kind", "count", "gpus"), [("nvidia.com/gpu", "", 1), ("NVIDIA_TESLA_T4", "2.0", 2), ("", "3", 0)]
)
def test_gpus(kind: str, count: str, gpus: int):
    demand, limits = demand_of(Resources(accelerator_type=kind, accelerator_count=count), Context({}), "t")
    assert demand.gpus == limits.gpus == gpus


@pytest.mark.parametrize("count", ["1.5", "-1", "many", "nan", "inf"])
def test_what_is_no_number_of_gpus_is_named(count: str):
    with pytest.raises(BadInput, match=f"t: accelerator count '{count}'"):
        demand_of(Resources(accelerator_type="nvidia.com/gpu", accelerator_count=count), Context({}), "t")


@pytest.mark.parametrize("kind", ["amd.com/gpu", "nvidia.com/mig-1g.5gb", "cloud-tpus.google.com/v3"])
def test_another_accelerator_is_refused_by_name(kind: str):
    with pytest.raises(Unsupported, match=f"t: accelerator '{kind}'"):
        demand_of(Resources(accelerator_type=kind, accelerator_count="1"), Context({}), "t")
    assert demand_of(Resources(accelerator_type=kind, accelerator_count="0"), Context({}), "t")[0].gpus == 0


def test_threads_follow_the_cpus():
    assert thread_environment(0) == {}
    assert set(thread_environment(0.5).values()) == {"1"}
    assert thread_environment(3)["OMP_NUM_THREADS"] == "3"


@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 3)), max_size=30))
def test_the_ledger_never_gives_more_than_there_is(asked: list[tuple[float, int]]):
    ledger = Ledger(Demand(4.0, 8, 0), slots=3)
    held: list[Demand] = []
    for cpus, memory in asked:
        demand = Demand(cpus, memory)
        if ledger.take(demand):
            held.append(demand)
        elif held:
            ledger.give(held.pop(0))
        assert sum(d.cpus for d in held) <= 4 and sum(d.memory for d in held) <= 8 and len(held) <= 3
    while held:
        ledger.give(held.pop())
    assert (ledger.free, ledger.slots) == (ledger.total, 3)


def test_what_can_never_fit_says_what_there_is():
    with pytest.raises(BadInput, match=r"big: asks for 8 CPUs; this machine has 4 CPUs\n"):
        Ledger(Demand(4.0, 8), 1).check(Demand(8.0), "big")
    with pytest.raises(BadInput, match=r"big: asks for 1 GPU; this machine has 0 GPUs\n"):
        Ledger(Demand(4.0, 8), 1).check(Demand(gpus=1), "big")
    assert machine().cpus >= 1 and machine().memory > 2**28

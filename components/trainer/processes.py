"""The processes of one training, by Hugging Face's `accelerate`: each a share of every step's batches, all the same weights.

No wrapper stands around the model: its tensors keep their names, and a process that has no batch in a step takes part all the same.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch

from components.kfp_io import StepError
from components.trainer.launch import LOST, Member
from components.trainer.model import best_device

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""What one waits for another that scores or writes; one that is gone is noticed by whoever started them."""

_BUCKET = 8 * 2**20
"""Numbers whose gradients are summed at once: 32 MiB, about what torch's own data parallelism takes."""


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many; all methods but `share` and `draw_apart` are to be called by each of them, in one order."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=best_device)

    @property
    def first(self) -> bool:
        """Whether this is the one that scores, writes and speaks."""
        return self.rank == 0

    def share(self, batches: Sequence[T]) -> Sequence[T]:
        """Return what this process has to learn from; nothing, perhaps."""
        return batches[self.rank :: self.count]

    def total(self, value: float) -> float:
        """Return the sum over all processes."""
        if self.count == 1:
            return value
        return float(self._sum(torch.tensor([value], dtype=torch.float64, device=self.device)))

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give each parameter the sum of its gradients; one that nowhere has a gradient, which is not zero, stays without."""
        if self.count == 1:
            return
        learned = list(parameters)
        has = torch.tensor([weight.grad is not None for weight in learned], dtype=torch.int32, device=self.device)
        holders = self._sum(has).tolist()
        for bucket in _buckets([weight for weight, some in zip(learned, holders, strict=True) if some]):
            gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in bucket]
            summed = self._sum(torch.cat([gradient.flatten() for gradient in gradients]))
            for weight, part in zip(bucket, summed.split([weight.numel() for weight in bucket]), strict=True):
                weight.grad = part.view_as(weight)

    def broadcast(self, make: Callable[[], T]) -> T:
        """Return what `make` gives in the first process."""
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        values = [make() if self.first else None]
        with _reaching_all():
            found: T = broadcast_object_list(values)[0]
        return found

    def draw_apart(self, seed: int, step: int) -> None:
        """Let what is drawn in step `step` of the training be this process's own, and the same however it came there."""
        if self.count > 1:
            torch.manual_seed(int(np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)[0]))

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        from accelerate.utils import reduce

        with _reaching_all():
            summed: torch.Tensor = reduce(tensor, reduction="sum")
        return summed


def _buckets(weights: Iterable[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Give the weights in groups of some `_BUCKET` numbers: a sum over processes costs a fixed time, and a copy of what is summed."""
    bucket: list[torch.nn.Parameter] = []
    for weight in weights:
        bucket.append(weight)
        if sum(member.numel() for member in bucket) >= _BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


@contextmanager
def open_processes(member: Member | None) -> Iterator[Processes]:
    """Meet the other processes of the training, on GPUs by NCCL, else by gloo; without `member` there are none.

    Raises StepError if there are GPUs, but not one for each.
    """
    if member is None:
        yield Processes()
        return
    gpus = torch.cuda.device_count()
    if 0 < gpus < member.count:
        raise StepError(f"--processes is {member.count}, but there are {gpus} GPUs", hint="each process takes one")
    from accelerate.state import PartialState
    from accelerate.utils import check_cuda_p2p_ib_support

    # They are on this machine: gloo would listen at the address of the host's name, if it finds one.
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    # Some cards cannot reach each other. accelerate refuses them without this, which its launcher sets.
    if gpus and not check_cuda_p2p_ib_support():
        os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    meeting = {"init_method": member.meeting, "rank": member.rank, "world_size": member.count}
    with _reaching_all():
        state = PartialState(cpu=gpus == 0, timeout=_PATIENCE, **meeting)
    yield Processes(member.rank, member.count, state.device)
    state.destroy_process_group()


@contextmanager
def _reaching_all() -> Iterator[None]:
    """End this process if the others cannot be reached: whoever ended first has said why.

    What the first process says on stderr is seen at once, so it says nothing; what another says is seen if nobody has said why.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if os.environ.get("INTERMODAL_DEBUG") == "1":
            traceback.print_exc()
        if os.environ["RANK"] != "0":
            print(str(error).partition("\n")[0], file=sys.stderr)
        raise SystemExit(LOST) from None

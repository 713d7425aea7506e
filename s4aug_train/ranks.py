"""The processes of a run, as torchrun starts them: which one this is, and what they do together."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from .errors import ConfigError

# How long a process waits for the others in a step, and where one does work for all, such as decoding tiles.
STEP_PATIENCE = timedelta(minutes=30)
WORK_PATIENCE = timedelta(days=1)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; with one, everything here does nothing.

    Args:
        rank: Of this process, from 0.
        count: Of processes.
        local: Of this process among those of its machine.
        local_count: Of processes on its machine.
        restarts: How often torchrun started them anew after one had failed.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    local_count: int = 1
    restarts: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes, float32, without gradient and without asking the host."""
        if self.count == 1:
            return value.detach().float()
        # Sums of pixels do not fit into the 24 bits of float32.
        total = value.detach().double()
        dist.all_reduce(total)
        return (total / self.count).float()

    def total(self, counts: Tensor) -> Tensor:
        """The sum over the processes, of whole numbers."""
        if self.count == 1:
            return counts
        summed = counts.clone()
        dist.all_reduce(summed)
        return summed

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.total(torch.tensor(int(flag))))

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gathered(self, value: Value) -> list[Value]:
        """The values of all processes, in their order."""
        if self.count == 1:
            return [value]
        values = [value] * self.count
        dist.all_gather_object(values, value)
        return values

    def check_same(self, what: str, value: object) -> None:
        """Hold the processes to one value.

        Raises:
            ConfigError: Two differ.
        """
        values = self.gathered(value)
        if different := [(rank, other) for rank, other in enumerate(values) if other != values[0]]:
            rank, other = different[0]
            raise ConfigError(
                f"process 0 has {what} {values[0]}, process {rank} {other}: all need the same command, the same data "
                f"and, on several machines, --out in a folder that they share"
            )

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process of each machine does something before the others, who find it done."""
        if self.count == 1:
            yield
            return
        group: Any = dist.new_group(backend="gloo", timeout=WORK_PATIENCE)
        if self.local > 0:
            dist.barrier(group)
        yield
        if self.local == 0:
            dist.barrier(group)


ALONE = Ranks()


def here() -> Ranks:
    """What torchrun says in the environment; one process without it.

    Raises:
        ConfigError: What it says is no number.
    """
    names = {"rank": "RANK", "count": "WORLD_SIZE", "local": "LOCAL_RANK", "local_count": "LOCAL_WORLD_SIZE"}
    if os.environ.get("WORLD_SIZE", "1") == "1" or not all(name in os.environ for name in names.values()):
        return ALONE
    names["restarts"] = "TORCHELASTIC_RESTART_COUNT"
    said = {field: os.environ.get(name, "0") for field, name in names.items()}
    try:
        return Ranks(**{field: int(text) for field, text in said.items()})
    except ValueError as error:
        raise ConfigError(f"{', '.join(names.values())} must be numbers, got {said}; start by torchrun") from error


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Take a place among the processes of the run; a group that the caller has formed before is used as it is.

    Args:
        device: Of this process.

    Raises:
        ConfigError: The others cannot be reached.
    """
    ranks = here()
    if ranks.count == 1 or dist.is_initialized():
        yield ranks
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        store, rank, count = next(rendezvous("env://", timeout=STEP_PATIENCE))
        # The store may outlive a restart, with addresses of processes that are gone.
        own = dist.PrefixStore(f"s4aug/{ranks.restarts}", store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=own, rank=rank, world_size=count, timeout=STEP_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"the processes of the run cannot reach each other: {reason}; start them by torchrun") from (
            error
        )
    yield ranks
    # Not after an error: a process that is gone would be waited for.
    dist.destroy_process_group()

"""The processes of a run, as torchrun starts them, and what they do together."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from .errors import ConfigError
from .launch import Rank, here

# How long a process waits for the others in a step, and where one does work for all, such as decoding tiles.
STEP_PATIENCE = timedelta(minutes=30)
WORK_PATIENCE = timedelta(days=1)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks(Rank):
    """The processes of a run as one of them sees them; with one, everything here does nothing.

    Args:
        rank: As in `Rank`, as are all that are not named here.
        count: As in `Rank`.
        local: As in `Rank`.
        local_count: As in `Rank`.
        launch: As in `Rank`.
        patient: Group of processes that wait for work that one does for all; None with one.
    """

    patient: Any = field(default=None, compare=False)

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

    def wait(self) -> None:
        """Until all are here, however long one works."""
        if self.count > 1:
            dist.barrier(self.patient)

    @torch.no_grad()
    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        for tensor in tensors if self.count > 1 else ():
            dist.broadcast(tensor, 0)

    def gathered(self, value: Value) -> list[Value]:
        """The values of all processes, in their order."""
        if self.count == 1:
            return [value]
        values = [value] * self.count
        dist.all_gather_object(values, value)
        return values

    def check_same(self, values: Mapping[str, object]) -> None:
        """Hold the processes to the same values.

        Raises:
            ConfigError: Two differ in one; it is named.
        """
        first, *others = self.gathered(values)
        for rank, other in enumerate(others, 1):
            for name, value in first.items():
                if other[name] != value:
                    raise ConfigError(
                        f"process 0 has {name}={value}, process {rank} {other[name]}: all need the same command, the "
                        f"same data and, on several machines, --out in a folder that they share"
                    )

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process of each machine does something before the others, who find it done."""
        if self.local > 0:
            self.wait()
        yield
        if self.local == 0:
            self.wait()


ALONE = Ranks()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Take a place among the processes of the run; a group that the caller has formed before is used as it is.

    Args:
        device: Of this process.

    Raises:
        ConfigError: The others cannot be reached.
    """
    ranks, formed = Ranks(**vars(here())), dist.is_initialized()
    if ranks.count == 1:
        yield ranks
        return
    if not formed:
        _form_group(ranks, device)
    ranks = replace(ranks, patient=dist.new_group(backend="gloo", timeout=WORK_PATIENCE))
    yield ranks
    # The first may still be writing. Not after an error: a process that is gone would be waited for.
    ranks.wait()
    if not formed:
        dist.destroy_process_group()


def _form_group(ranks: Ranks, device: torch.device) -> None:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        store, rank, count = next(rendezvous("env://", timeout=STEP_PATIENCE))
        own = dist.PrefixStore(_attempt(store, ranks), store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=own, rank=rank, world_size=count, timeout=STEP_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"the processes of the run cannot reach each other: {reason}; start them by torchrun") from (
            error
        )


def _attempt(store: Any, ranks: Ranks) -> str:
    """A name that the processes of this attempt alone share.

    torchrun's store outlives a restart, with addresses of processes that are gone, and machines may count restarts
    differently. So each says a number that none has said before, and the first answers under it until all have
    answered back.
    """
    own, waiting, pause_s = uuid4().hex, set(range(1, ranks.count)), 0.02
    if not ranks.first:
        store.set(f"s4aug/hello/{ranks.rank}", own)
        while True:
            name: str = store.get(f"s4aug/name/{own}").decode()
            store.set(f"s4aug/back/{name}/{own}", "")
            if store.check([f"s4aug/all/{name}"]):
                return name
            time.sleep(pause_s)
    while waiting:
        for rank in list(waiting):
            if store.check([f"s4aug/hello/{rank}"]):
                theirs = store.get(f"s4aug/hello/{rank}").decode()
                store.set(f"s4aug/name/{theirs}", own)
                if store.check([f"s4aug/back/{own}/{theirs}"]):
                    waiting.discard(rank)
        time.sleep(pause_s)
    store.set(f"s4aug/all/{own}", "")
    return own

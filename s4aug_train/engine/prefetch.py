"""Batches read ahead of the training loop."""

import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..data.pool import Pool
from ..errors import DataError, S4AugTrainError
from ..methods import Batch
from ..rng import stream_seed

AHEAD = 2  # batches per worker


@dataclass(frozen=True, eq=False)
class Loader:
    """The batches of a run, each a function of its step alone.

    Args:
        labeled: Labelled pool.
        unlabeled: Unlabelled pool, or None.
        batch_labeled: Labelled crops per step.
        batch_unlabeled: Unlabelled crops per step.
        seed: The run's.
        weight: lambda of a step.
        workers: Threads or processes that read ahead; 0 reads when asked.
        device: Where batches are moved.
        processes: Read by spawned processes, for tiles whose reading is Python of the user's; else by threads.
        first_part: The first of this process's parts of the joint batch.
        own_parts: How many of them are this process's.
        parts: How many there are.
    """

    labeled: Pool
    unlabeled: Pool | None
    batch_labeled: int
    batch_unlabeled: int
    seed: int
    weight: Callable[[int], float]
    workers: int
    device: torch.device
    processes: bool = False
    first_part: int = 0
    own_parts: int = 1
    parts: int = 1

    def batch(self, step: int) -> list[Batch]:
        """The parts of one step that are this process's, where the pools are."""
        return [self._part(step, self.first_part + i) for i in range(self.own_parts)]

    def _part(self, step: int, part: int) -> Batch:
        labeled = self.labeled.crops(self.seed, step, "labeled", self.batch_labeled, part=part, parts=self.parts)
        unlabeled = None
        if self.unlabeled is not None:
            unlabeled = self.unlabeled.crops(
                self.seed, step, "unlabeled", self.batch_unlabeled, part=part, parts=self.parts
            )
        key = torch.tensor([stream_seed(self.seed, step, "batch")])
        weight = torch.tensor(self.weight(step), dtype=torch.float32)
        batch = Batch(step, self.seed, key, weight, labeled, unlabeled, part, self.parts)
        on_host = self.device.type == "cuda" and not self.labeled.resident
        return batch.pin_memory() if on_host and not self.processes else batch

    def batches(self, first: int, steps: int) -> Iterator[tuple[list[Batch], float]]:
        """Batches of the steps from `first` to `steps`, with the seconds spent waiting for each."""
        ahead = self._read(first, steps)
        for _ in range(first, steps):
            began = time.perf_counter()
            parts = [part.to(self.device) for part in next(ahead)]
            yield parts, time.perf_counter() - began

    def _read(self, first: int, steps: int) -> Iterator[list[Batch]]:
        # Tiles on a device are cut there, in no time.
        if self.workers == 0 or self.labeled.resident:
            return map(self.batch, range(first, steps))
        return self._by_processes(first, steps) if self.processes else self._by_threads(first, steps)

    def _by_threads(self, first: int, steps: int) -> Iterator[list[Batch]]:
        with ThreadPoolExecutor(self.workers) as pool:
            pending: deque[Future[list[Batch]]] = deque()
            following = first
            try:
                for _ in range(first, steps):
                    while following < steps and len(pending) < AHEAD * self.workers:
                        pending.append(pool.submit(self.batch, following))
                        following += 1
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _by_processes(self, first: int, steps: int) -> Iterator[list[Batch]]:
        """Spawned, not forked: this process has threads."""
        try:
            pickle.dumps(self)
        except Exception as error:  # whatever the user's dataset raises
            raise DataError(
                f"the dataset cannot be sent to other processes ({type(error).__name__}: {error}); use train.workers=0"
            ) from error
        loader: DataLoader[list[Batch] | S4AugTrainError] = DataLoader(
            _Steps(self, first, steps),
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            multiprocessing_context="spawn",
            pin_memory=self.device.type == "cuda",
        )
        for batch in loader:
            if isinstance(batch, S4AugTrainError):
                raise batch
            yield batch


class _Steps(Dataset[list[Batch] | S4AugTrainError]):
    """The batches of a loader by step, as a map-style dataset; errors of ours are items too.

    Raised in a worker they would arrive as a traceback in the place of their message.
    """

    def __init__(self, loader: Loader, first: int, steps: int) -> None:
        self.loader, self.first, self.steps = loader, first, steps

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Any:
        try:
            return self.loader.batch(self.first + index)
        except S4AugTrainError as error:
            error.add_note(traceback.format_exc())
            return error

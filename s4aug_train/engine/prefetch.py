"""Batches read ahead of the training loop."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from ..data.pool import Pool
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
        workers: Threads that read ahead; 0 reads when asked.
        device: Where batches are moved.
    """

    labeled: Pool
    unlabeled: Pool | None
    batch_labeled: int
    batch_unlabeled: int
    seed: int
    workers: int
    device: torch.device

    def batch(self, step: int) -> Batch:
        """The batch of one step, on the CPU."""
        labeled = self.labeled.crops(self.seed, step, "labeled", self.batch_labeled)
        unlabeled = None
        if self.unlabeled is not None:
            unlabeled = self.unlabeled.crops(self.seed, step, "unlabeled", self.batch_unlabeled)
        key = torch.tensor([stream_seed(self.seed, step, "batch")])
        return Batch(step, key, labeled, unlabeled)

    def batches(self, first: int, steps: int) -> Iterator[tuple[Batch, float]]:
        """Batches of the steps from `first` to `steps`, with the seconds spent waiting for each."""
        if self.workers == 0:
            for step in range(first, steps):
                began = time.perf_counter()
                batch = self._moved(self.batch(step))
                yield batch, time.perf_counter() - began
            return
        with ThreadPoolExecutor(self.workers) as pool:
            pending: deque[Future[Batch]] = deque()
            following = first
            try:
                for _ in range(first, steps):
                    while following < steps and len(pending) < AHEAD * self.workers:
                        pending.append(pool.submit(self.batch, following))
                        following += 1
                    began = time.perf_counter()
                    batch = self._moved(pending.popleft().result())
                    yield batch, time.perf_counter() - began
            finally:
                for future in pending:
                    future.cancel()

    def _moved(self, batch: Batch) -> Batch:
        unlabeled = None if batch.unlabeled is None else batch.unlabeled.to(self.device)
        key = batch.key.to(self.device, non_blocking=True)
        return Batch(batch.step, key, batch.labeled.to(self.device), unlabeled)

"""A training step as one CUDA graph: recorded once, then replayed with a single launch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..methods import Batch
from .state import Outcome, TrainingState

WARM_UP = 3  # steps as usual, on the stream that is recorded afterwards: libraries choose their kernels there


class GraphedSteps:
    """Steps of a training state; the first few as they come, then one recorded and replayed.

    Every batch must have one form: the pools are `steady`. Losses are overwritten by the next step.

    Args:
        state: On a CUDA device.
    """

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        self.stream = torch.cuda.Stream(state.device)
        self.graph = torch.cuda.CUDAGraph()
        self.done = 0
        self.batch: Batch | None = None
        self.outcome: Outcome | None = None

    def train_on(self, parts: Sequence[Batch]) -> Outcome:
        """As `TrainingState.train_on`, of a step in one part."""
        (batch,) = parts
        self.state.set_rate()
        with torch.random.fork_rng(devices=[]):
            self.state.seed_layers()
            outcome = self._warmed_up(batch) if self.done < WARM_UP else self._replayed(batch)
        self.done += 1
        self.state.step += 1
        return outcome

    def _warmed_up(self, batch: Batch) -> Outcome:
        current = torch.cuda.current_stream(self.state.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            outcome = self.state.descend([batch], seeded=False)
        current.wait_stream(self.stream)
        return outcome

    def _replayed(self, batch: Batch) -> Outcome:
        if self.outcome is None or self.batch is None:
            self.batch = batch.map(Tensor.clone)
            self.state.optimizer.zero_grad(set_to_none=True)
            # Other threads read and pin the next batches meanwhile.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.outcome = self.state.descend([self.batch], seeded=False)
        for held, new in zip(_tensors(self.batch), _tensors(batch), strict=True):
            held.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.outcome


def _tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    batch.map(note)
    return found

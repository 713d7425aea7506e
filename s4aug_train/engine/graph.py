"""A training step as one CUDA graph: recorded once, then replayed with a single launch."""

import torch
from torch import Tensor

from ..methods import Batch, Losses
from .state import TrainingState

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
        self.losses: Losses | None = None

    def train_on(self, batch: Batch) -> Losses:
        """As `TrainingState.train_on`."""
        self.state.set_rate()
        with self.state.seeded():
            losses = self._warmed_up(batch) if self.done < WARM_UP else self._replayed(batch)
        self.done += 1
        self.state.step += 1
        return losses

    def _warmed_up(self, batch: Batch) -> Losses:
        current = torch.cuda.current_stream(self.state.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            losses = self.state.descend(batch)
        current.wait_stream(self.stream)
        return losses

    def _replayed(self, batch: Batch) -> Losses:
        if self.losses is None or self.batch is None:
            self.batch = batch.map(Tensor.clone)
            self.state.optimizer.zero_grad(set_to_none=True)
            # Other threads read and pin the next batches meanwhile.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.losses = self.state.descend(self.batch)
        for held, new in zip(_tensors(self.batch), _tensors(batch), strict=True):
            held.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.losses


def _tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    batch.map(note)
    return found

"""The running statistics of a network, which a step that is not taken must not change."""

import torch
from torch import Tensor, nn


class RunningStatistics:
    """Those of BatchNorm and its like, noted before a step and put back where it is not taken.

    Args:
        network: On the training device.
    """

    def __init__(self, network: nn.Module) -> None:
        self.buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.noted: Tensor | None = None  # all of them, one after the other

    def note(self) -> None:
        """Remember them as they are."""
        self.noted = self._flat() if self.buffers else None

    def restore(self, wanted: Tensor) -> None:
        """Put back what was noted where `wanted` (scalar bool) says so, without asking the host."""
        if self.noted is None:
            return
        flat = torch.where(wanted, self.noted, self._flat())
        parts = flat.split([buffer.numel() for buffer in self.buffers])
        shaped = [part.view_as(buffer) for part, buffer in zip(parts, self.buffers, strict=True)]
        torch._foreach_copy_(self.buffers, shaped)

    def _flat(self) -> Tensor:
        return torch.cat([buffer.flatten() for buffer in self.buffers])

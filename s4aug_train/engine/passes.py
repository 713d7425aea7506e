"""Gradients of a joint batch: part by part in one process, and over the processes by PyTorch's DDP."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..methods import Batch, Joint, Losses, Method, Noted, by, known
from ..model import OwnNetwork
from ..ranks import Ranks

# Renamed in torch 2.14.
NAMES = signature(DistributedDataParallel).parameters
SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in NAMES else "broadcast_buffers"


class Passes:
    """Forward and backward of a process's parts; the gradient is the mean over all parts of all processes.

    Args:
        network: On the training device.
        method: Makes the losses.
        ranks: The processes.
    """

    def __init__(self, network: nn.Module, method: Method, ranks: Ranks) -> None:
        self.network = network
        self.method = method
        self.ranks = ranks
        self.reduced: DistributedDataParallel | None = None
        if ranks.count > 1:
            # Parts of a user's network may be idle in training. Running statistics stay each process's own.
            idle = isinstance(network, OwnNetwork)
            options: dict[str, Any] = {"find_unused_parameters": idle, SYNC_BUFFERS: False}
            self.reduced = DistributedDataParallel(_Step(network, method), **options)

    def backward(
        self,
        parts: Sequence[Batch],
        partner: nn.Module | None,
        scaler: torch.amp.GradScaler,
        autocast: AbstractContextManager[Any],
        seed: Callable[[int], None],
    ) -> dict[str, Tensor]:
        """Add the gradients of all parts to the network's, and to the partner's.

        Args:
            parts: This process's.
            partner: The method's.
            scaler: Of the loss.
            autocast: What the forward runs under.
            seed: Called with the number of each part before its forward.

        Returns:
            Losses by name, means over the parts, detached.
        """
        joints = self._joints(parts, partner, autocast, seed)
        told: dict[str, Tensor] = {}
        for number, (part, joint) in enumerate(zip(parts, joints, strict=True), 1):
            seed(part.part)
            with self._reduced_with(last=number == len(parts)):
                with autocast:
                    losses = self._losses(replace(part, joint=joint), partner)
                scaler.scale(_share(losses.total, parts)).backward()
                if losses.partner is not None:
                    _share(losses.partner, parts).backward()
            for name, value in losses.told().items():
                told[name] = told[name] + _share(value, parts) if name in told else _share(value, parts)
        self._reduce_partner(partner)
        return told

    def _losses(self, batch: Batch, partner: nn.Module | None) -> Losses:
        if self.reduced is None:
            return self.method.losses(self.network, batch, partner)
        losses: Losses = self.reduced(batch, partner)
        return losses

    def _reduced_with(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients meet those of the other processes once in a step."""
        return self.reduced.no_sync() if self.reduced is not None and not last else nullcontext()

    def _reduce_partner(self, partner: nn.Module | None) -> None:
        for parameter in partner.parameters() if partner is not None and self.ranks.count > 1 else ():
            if parameter.grad is not None:
                parameter.grad.copy_(self.ranks.mean(parameter.grad))

    def _joints(
        self,
        parts: Sequence[Batch],
        partner: nn.Module | None,
        autocast: AbstractContextManager[Any],
        seed: Callable[[int], None],
    ) -> list[Joint]:
        """How each part learns of the others: by asking, or, of those shown after it, by a first look at all."""
        if len(parts) == 1:
            return [parts[0].joint if self.ranks.count == 1 else by(self.ranks.mean)]
        network: nn.Module = self.network
        if self.method.counts_ahead():
            stride = network.stride if isinstance(network, OwnNetwork) else 1
            network = Blank(self.method.setup.classes, stride)
        buffers = list(self.network.buffers())
        before = [buffer.clone() for buffer in buffers]
        looks = []
        for part in parts:
            look = Noted()
            seed(part.part)
            with autocast:
                self.method.losses(network, replace(part, joint=look), partner)
            looks.append(look.values)
        if buffers:
            torch._foreach_copy_(buffers, before)
        means = [self.ranks.mean(torch.stack(values).mean(0)) for values in zip(*looks, strict=True)]
        return [known(means) for _ in parts]


class Blank(nn.Module):
    """A network that predicts nothing, at a stride: enough to count what there is to compare.

    Args:
        classes: Number of classes K.
        stride: Of its predictions, px.
    """

    def __init__(self, classes: int, stride: int) -> None:
        super().__init__()
        self.classes = classes
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:  # [B, bands, H, W] -> [B, K, ceil(H / s), ceil(W / s)]
        """Zeros, with a gradient of 0."""
        cells = images[:, :1, :: self.stride, :: self.stride]
        return (0 * cells).expand(-1, self.classes, -1, -1)


class _Step(nn.Module):
    """A method's losses as one forward, which DDP asks for, whatever the method does with the network in it."""

    def __init__(self, network: nn.Module, method: Method) -> None:
        super().__init__()
        self.network = network
        self.method = method

    def forward(self, batch: Batch, partner: nn.Module | None) -> Losses:
        return self.method.losses(self.network, batch, partner)


def _share(value: Tensor, parts: Sequence[Batch]) -> Tensor:
    return value / len(parts) if len(parts) > 1 else value

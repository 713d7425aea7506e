"""Predictions that are targets: of theta-bar, the moving average of a network, and of a network that stays as it is."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

Network = Callable[[Tensor], Tensor]


class Teacher(nn.Module):
    """theta-bar (Tarvainen and Valpola 2017): a network that follows another one and is never trained.

    Parameters and running statistics are averages; after step t the decay is min(decay, 1 - 1 / (t + 1)), so that the
    first steps do not hold on to the random beginning.

    Args:
        network: Where it begins.
        decay: Of the average, 0 to 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))
        self.steps: Tensor

    def predict(self, images: Tensor) -> Tensor:  # [B, bands, h, w] -> [B, K, h', w']
        """A target, without gradient; BatchNorm goes by the batch, as in the network that learns."""
        return target_of(self.network, images)

    @torch.no_grad()
    def after_step(self, network: nn.Module, skipped: Tensor) -> None:
        """Move a step towards the network."""
        self.steps += ~skipped
        decay = (1 - 1 / (self.steps + 1)).clamp_max(self.decay).float()
        decay = torch.where(skipped, 1.0, decay)
        pairs = list(zip(_state(self.network), _state(network), strict=True))
        averaged = [(own, other) for own, other in pairs if own.is_floating_point()]
        own, other = ([pair[i] for pair in averaged] for i in (0, 1))
        torch._foreach_mul_(own, decay)
        torch._foreach_add_(own, torch._foreach_mul(other, 1 - decay))
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def averaged(network: nn.Module, decay: float) -> Teacher | None:
    """theta-bar where a decay asks for it; with none it is the network itself."""
    return Teacher(network, decay) if decay else None


def target_of(network: nn.Module, images: Tensor) -> Tensor:  # [B, K, h', w']
    """A prediction without gradient, of a network that stays as it is."""
    with torch.no_grad():
        return still(network)(images)


def still(network: nn.Module) -> Network:
    """The network as it is now: calls move no running statistics, and no gradient reaches its parameters."""
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return lambda images: functional_call(network, {**parameters, **buffers}, (images,))


def _state(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]

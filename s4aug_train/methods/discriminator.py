"""Hung's discriminator: a network that tells predictions from truth, pixel by pixel."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .finite import skip_unless_finite
from .moments import STEP, put_back_moments

FACTORS = (1, 2, 4, 8)  # of the width: 64, 128, 256, 512
CELL = 32  # px of the input for one value of the last convolution
POLY_POWER = 0.9


class Discriminator(nn.Module):
    """Five convolutions of 4x4 and stride 2 (Hung et al. 2018); it learns by its own Adam, in `after_step`.

    It can be moved to a device until it has made its first step. A saved one holds Adam's state too.

    Args:
        classes: Number of classes K.
        rate: Learning rate of the first step; after n steps it is rate * (1 - n / steps)^0.9.
        steps: Of the run.
        width: Channels of the first convolution (ndf).
    """

    def __init__(self, classes: int, *, rate: float, steps: int, width: int = 64) -> None:
        super().__init__()
        self.rate = rate
        self.steps = steps
        layers: list[nn.Module] = []
        for before, after in pairwise([classes, *(width * factor for factor in FACTORS)]):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width * FACTORS[-1], 1, 4, stride=2, padding=1))
        # A tensor, which a CUDA graph can count up.
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self.done: Tensor
        self.optimizer = torch.optim.Adam(self.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)

    def forward(self, maps: Tensor) -> Tensor:  # [B, K, h, w] -> [B, 1, h, w]
        """Logits of being truth; maps hold probabilities, and 0 where nothing is known."""
        height, width = maps.shape[-2:]
        # Convolutions drop the odd last row; padded, every pixel is seen and a logit stands at its cell's centre.
        whole = F.pad(maps, (0, -width % CELL, 0, -height % CELL))
        cells = self.layers(whole)  # [B, 1, ceil(h / 32), ceil(w / 32)]
        logits = F.interpolate(cells, scale_factor=CELL, mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def judge(self, maps: Tensor) -> Tensor:  # [B, K, h, w] -> [B, 1, h, w]
        """The same as a fixed function: gradients reach the maps, never the discriminator."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        logits: Tensor = functional_call(self, fixed, (maps,))
        return logits

    def learning_rate(self) -> Tensor:
        """Of the next step; a scalar on the device."""
        return self.rate * (1 - self.done / self.steps).clamp_min(0) ** POLY_POWER

    def after_step(self, network: nn.Module, skipped: Tensor) -> None:
        """Learn from the gradient that it has been given; not from one that is not finite, or of a skipped step."""
        skip_unless_finite(self.optimizer, or_if=skipped)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
            # Adam refuses to be recorded unless it is told so, and warns where it is told and not recorded.
            group["capturable"] = self.done.is_cuda and torch.cuda.is_current_stream_capturing()
        self.optimizer.step()
        self.done += 1

    def get_extra_state(self) -> dict[str, Any]:
        """Adam's moments; called by `state_dict`."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Put them back; called by `load_state_dict`."""
        put_back_moments(self.optimizer, state, (STEP, "exp_avg", "exp_avg_sq"))

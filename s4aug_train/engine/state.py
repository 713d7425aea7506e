"""What training changes: network, optimizer, scaler, and the step they are at."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..config import TrainConfig
from ..errors import CheckpointError
from ..methods import Batch, Losses, Method

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingState:
    """Network, optimizer and gradient scaler; the only thing that a step writes to.

    Args:
        network: On the training device.
        config: The group `train`.
        device: Where the network is.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, device: torch.device) -> None:
        self.network = network
        self.config = config
        self.device = device
        self.step = 0
        self.best: float | None = None
        self.evaluated = 0  # the step of the last evaluation
        self.autocast = PRECISIONS[config.precision]
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    def learning_rate(self) -> float:
        """Cosine from the first rate to 0 over all steps (Sec. 4.2)."""
        return self.config.lr * (1 + math.cos(math.pi * self.step / self.config.steps)) / 2

    def train_on(self, method: Method, batch: Batch) -> Losses:
        """One step of stochastic gradient descent."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            losses = method.losses(self.network, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, scaler and the last evaluation's step; the network's own state is kept beside it."""
        parts = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        return {**parts, "evaluated": self.evaluated}

    def load(self, step: int, best: float | None, network: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        try:
            self.network.load_state_dict(network)
            self.evaluated = training["evaluated"]
            self.optimizer.load_state_dict(training["optimizer"])
            if training["scaler"]:
                self.scaler.load_state_dict(training["scaler"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"the checkpoint does not fit this network: {reason}") from error
        self.step, self.best = step, best

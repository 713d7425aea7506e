"""What training changes: network, the method's partner, optimizer, scaler, and the step they are at."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..config import TrainConfig
from ..errors import CheckpointError, ConfigError
from ..methods import Batch, Losses, Method, Teacher
from ..rng import stream_seed
from .device import chosen_precision

POLY_POWER = 0.9


class TrainingState:
    """Network, partner, optimizer and gradient scaler; the only thing that a step writes to.

    Args:
        network: On the training device.
        method: Makes the loss, and the partner.
        config: The group `train`.
        device: Where the network is.
    """

    def __init__(self, network: nn.Module, method: Method, config: TrainConfig, device: torch.device) -> None:
        # A partner that is a copy should be in the same mode.
        self.network = network.train()
        self.method = method
        self.config = config
        self.device = device
        self.step = 0
        self.best: float | None = None
        self.evaluated = 0  # the step of the last evaluation
        self.autocast = chosen_precision(config.precision, device)
        partner = method.partner(network)
        if method.setup.config.method.ema and not isinstance(partner, Teacher):
            raise ConfigError(
                f"method.ema: the method {method.setup.config.method.name} keeps no average; leave it out"
            )
        self.partner: Any = None if partner is None else partner.to(device)
        # A tensor, which a CUDA graph can read anew in each replay.
        self.rate = torch.tensor(0.0, device=device) if config.graph else None
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=0.0 if self.rate is None else self.rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.autocast == torch.float16)

    def learning_rate(self) -> float:
        """By the schedule: cosine from the first rate to 0 over all steps (Sec. 4.2), or another."""
        done = self.step / self.config.steps
        factor = {
            "cosine": (1 + math.cos(math.pi * done)) / 2,
            "poly": (1 - done) ** POLY_POWER,
            "constant": 1.0,
        }[self.config.schedule]
        warm = min((self.step + 1) / self.config.warmup, 1.0) if self.config.warmup else 1.0
        return self.config.lr * factor * warm

    def train_on(self, batch: Batch) -> Losses:
        """One step of stochastic gradient descent."""
        self.set_rate()
        with self.seeded():
            losses = self.descend(batch)
        self.step += 1
        return losses

    def set_rate(self) -> None:
        """Give the optimizer this step's learning rate."""
        if self.rate is not None:
            self.rate.fill_(self.learning_rate())
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() if self.rate is None else self.rate

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """What layers such as dropout draw follows from the step too, not from what was drawn before."""
        seed = stream_seed(self.config.seed, self.step, "layers")
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield

    def descend(self, batch: Batch) -> Losses:
        """What a step does on the device; nothing here asks the host."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            losses = self.method.losses(self.network, batch, self.partner)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.partner is not None:
            self.partner.after_step(self.network, losses)
        return losses

    def evaluated_network(self) -> nn.Module:
        """The network whose predictions count: the student, or its average."""
        if self.method.setup.config.method.evaluate == "teacher":
            teacher: nn.Module = self.partner.network
            return teacher
        return self.network

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, scaler, partner and the last evaluation's step; the network's own state is kept beside it."""
        parts = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        partner = {} if self.partner is None else self.partner.state_dict()
        return {**parts, "partner": partner, "evaluated": self.evaluated}

    def load(self, step: int, best: float | None, network: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        try:
            self.network.load_state_dict(network)
            self.evaluated = training["evaluated"]
            self.optimizer.load_state_dict(training["optimizer"])
            if training["scaler"]:
                self.scaler.load_state_dict(training["scaler"])
            if self.partner is not None:
                self.partner.load_state_dict(training["partner"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"the checkpoint does not fit this network: {reason}") from error
        self.step, self.best = step, best

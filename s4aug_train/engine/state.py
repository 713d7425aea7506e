"""What training changes: network, the method's partner, optimizer, scaler, and the step they are at."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..errors import CheckpointError, ConfigError
from ..methods import Batch, Method, Teacher, put_back_moments, skip_unless_finite
from ..ranks import ALONE, Ranks
from ..rng import stream_seed
from .device import chosen_precision
from .passes import Passes
from .statistics import RunningStatistics

POLY_POWER = 0.9


class Outcome(NamedTuple):
    """What came of a step; nothing of it has been asked of the device."""

    told: dict[str, Tensor]  # losses by name, scalars: means over this process's parts of the joint batch
    skipped: Tensor  # scalar bool: a gradient was not finite, and nothing was learned


class TrainingState:
    """Network, partner, optimizer and gradient scaler; the only thing that a step writes to.

    Args:
        network: On the training device.
        method: Makes the loss, and the partner.
        config: The group `train`.
        device: Where the network is.
        ranks: The processes that train together.
    """

    def __init__(
        self,
        network: nn.Module,
        method: Method,
        config: TrainConfig,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        # A partner may be a copy: it should begin alike everywhere, and in the same mode.
        ranks.follow_first([*network.parameters(), *network.buffers()])
        self.network = network.train()
        self.method = method
        self.config = config
        self.device = device
        self.parts = ranks.count * config.accumulate  # of a joint batch
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
        if self.partner is not None:
            ranks.follow_first([*self.partner.parameters(), *self.partner.buffers()])
        # A tensor, which a CUDA graph can read anew in each replay.
        self.rate = torch.tensor(0.0, device=device) if config.graph else None
        self.optimizer = _optimizer(network, config, self.rate)
        self.statistics = RunningStatistics(network)
        self.passes = Passes(network, method, ranks)
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

    def train_on(self, parts: Sequence[Batch]) -> Outcome:
        """One step of stochastic gradient descent, on this process's parts of the joint batch."""
        self.set_rate()
        with torch.random.fork_rng(devices=[]):
            outcome = self.descend(parts)
        self.step += 1
        return outcome

    def set_rate(self) -> None:
        """Give the optimizer this step's learning rate."""
        if self.rate is not None:
            self.rate.fill_(self.learning_rate())
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() if self.rate is None else self.rate

    def seed_layers(self, part: int = 0) -> None:
        """What layers such as dropout draw follows from the step too, not from what was drawn before."""
        seed = stream_seed(self.config.seed, self.step, f"layers/{part}")
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def descend(self, parts: Sequence[Batch], *, seeded: bool = True) -> Outcome:
        """What a step does on the device; nothing here asks the host.

        Args:
            parts: Of the joint batch.
            seeded: Whether layers are seeded for each part; a CUDA graph cannot.
        """
        self.statistics.note()
        self.optimizer.zero_grad(set_to_none=True)
        if self.partner is not None:
            self.partner.zero_grad(set_to_none=True)
        autocast = torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None)
        seed = self.seed_layers if seeded else lambda part: None
        told = self.passes.backward(parts, self.partner, self.scaler, autocast, seed)
        skipped = skip_unless_finite(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.statistics.restore(skipped)
        if self.partner is not None:
            self.partner.after_step(self.network, skipped)
        return Outcome(told, skipped)

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
        return {**parts, "partner": partner, "evaluated": self.evaluated, "parts": self.parts}

    def load(self, step: int, best: float | None, network: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: It does not fit.
        """
        try:
            self.network.load_state_dict(network)
            self.evaluated, parts = training["evaluated"], training["parts"]
            put_back_moments(self.optimizer, training["optimizer"], ("momentum_buffer",))
            if scaler := training["scaler"]:
                numbers = {"scale": float(scaler["scale"]), "_growth_tracker": int(scaler["_growth_tracker"])}
                self.scaler.load_state_dict({**self.scaler.state_dict(), **numbers})
            if self.partner is not None:
                self.partner.load_state_dict(training["partner"])
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"the checkpoint does not fit this network: {reason}") from error
        if not all(value.isfinite().all() for value in self.network.state_dict().values()):
            raise CheckpointError("the checkpoint's weights are not finite; use another of the run's checkpoints/")
        if parts != self.parts:
            raise CheckpointError(
                f"a resumed run cannot change the parts of a step (processes times train.accumulate), which were "
                f"{parts} and are now {self.parts}: change --set train.accumulate to go with the "
                f"number of processes"
            )
        self.step, self.best = step, best


def _optimizer(network: nn.Module, config: TrainConfig, rate: Tensor | None) -> torch.optim.SGD:
    """Stochastic gradient descent, its rate in a tensor if there is one; each step sets the rate."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=0.0 if rate is None else rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        fused=True,
    )
    if config.momentum:
        # A first step that is skipped would leave them as they come from memory.
        for parameter in network.parameters():
            if parameter.requires_grad:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer

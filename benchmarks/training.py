"""What contests of training share: settings, network, state, and steps taken by hand."""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from s4aug_train.config import Config, TrainConfig
from s4aug_train.data.normalization import Normalization
from s4aug_train.engine import TrainingState
from s4aug_train.methods import Batch, Losses, Method, Setup
from s4aug_train.model import UNet

from .cases import Case
from .inputs import MEAN, STD

STEPS = 100_000
STEP = 80_000  # where lambda has grown to its full weight
WAIT = "data wait"  # a figure: the share of the time in which steps wait for their batches
BARE = "bare network"
LOSS_SHARE = {"float32": 0.02, "bfloat16": 0.05}
PRECISION = {"float32": "fp32", "bfloat16": "bf16"}


def encoder_of(case: Case) -> str:
    return "resnet50" if case.device == "cuda" else "resnet18"


def make_setup(case: Case, **train: object) -> Setup:
    """The paper's settings; nothing is evaluated or saved on the way.

    Args:
        case: Its sizes and precision.
        train: More of the group `train`.
    """
    settings = {
        "steps": STEPS,
        "batch_labeled": case.batch,
        "batch_unlabeled": case.batch // 2,
        "crop": case.size[0],
        "precision": PRECISION[case.dtype],
        "device": case.device,
        "evaluate_every": STEPS,
        "checkpoint_every": STEPS,
        **train,
    }
    config = Config().updated({f"train.{name}": value for name, value in settings.items()})
    return Setup(config, Normalization(MEAN, STD, "imagenet"), case.channels)


def make_network(case: Case) -> UNet:
    """The same weights whenever it is made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(case.channels, encoder=encoder_of(case)).to(case.device)


def make_state(method: Method, network: nn.Module) -> TrainingState:
    """At `STEP`, of a network of its own."""
    config = method.setup.config.train
    state = TrainingState(make_copy(network), method, config, torch.device(config.device))
    state.step = STEP
    return state


def make_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).train()


def losses_of(state: TrainingState, method: Method, batch: Batch) -> Losses:
    """What the network of a state makes of a batch."""
    with torch.autocast(state.device.type, state.autocast, enabled=state.autocast is not None):
        return method.losses(state.network, batch, None)


class DescentByHand:
    """Stochastic gradient descent, written down plainly.

    Args:
        network: Its parameters are changed.
        config: Rate, momentum and weight decay.
    """

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        self.parameters = list(network.parameters())
        self.velocities = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.config = config

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], at: int) -> None:
        """Of the step `at`, by the cosine from the first rate to 0."""
        rate = self.config.lr * (1 + math.cos(math.pi * at / self.config.steps)) / 2
        for parameter, velocity, gradient in zip(self.parameters, self.velocities, gradients, strict=True):
            velocity.mul_(self.config.momentum).add_(gradient + self.config.weight_decay * parameter)
            parameter.sub_(rate * velocity)


def trained_by_hand(method: Method, network: nn.Module, batches: Iterable[Batch]) -> Tensor:  # [3] float32
    """Mean losses over some steps: total, supervised, unsupervised."""
    state = make_state(method, network)
    descent = DescentByHand(state.network, state.config)
    seen = []
    for batch in batches:
        losses = losses_of(state, method, batch.to(state.device))
        seen.append(torch.stack([losses.total.detach(), losses.supervised, losses.unsupervised]).float())
        descent.step(torch.autograd.grad(losses.total, descent.parameters), batch.step)
    return torch.stack(seen).mean(0).cpu()

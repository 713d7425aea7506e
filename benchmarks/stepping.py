"""The contest of a whole training step of S4Net, and of the part of it that is ours."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s4aug import AffineRanges, AffineTransform, consistency_terms
from s4aug_train.config import MethodConfig, TrainConfig
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.pool import Crops
from s4aug_train.engine.state import TrainingState
from s4aug_train.methods import Batch, Losses
from s4aug_train.methods.s4net import S4Net
from s4aug_train.methods.supervision import cross_entropy, random_flips
from s4aug_train.model import UNet

from .cases import Case
from .consistency import masked_mean_square
from .contest import Contender, Contest, Finding
from .inputs import DEGREES, MEAN, SCALE, STD, TRANSLATE
from .peers import MASK_THRESHOLD, kornia_warp

STEPS = 100_000
STEP = 80_000  # where lambda has grown to its full weight
LOSS_SHARE = {"float32": 0.02, "bfloat16": 0.05}


def encoder_of(case: Case) -> str:
    return "resnet50" if case.device == "cuda" else "resnet18"


def step_contest(case: Case) -> Contest:
    """Losses of the first step agree; then steps are timed as they go on."""
    torch.manual_seed(0)
    network = UNet(case.channels, encoder=encoder_of(case)).to(case.device)
    method = our_method()
    batch = make_batch(case)
    first = make_state(case, copy.deepcopy(network))
    expected = losses_of(first, method, batch)

    def judge(losses: Losses) -> list[Finding]:
        pairs = (
            ("total", losses.total.detach(), expected.total),
            ("consistency", losses.consistency, expected.consistency),
        )
        return [Finding(what, float((a / b - 1).abs()), LOSS_SHARE[case.dtype]) for what, a, b in pairs]

    kornia_method = KorniaS4Net.of(method, batch)
    contenders = [
        Contender("s4aug", "ours", step_of(make_state(case, copy.deepcopy(network)), method, batch), judge),
        Contender("Kornia", "peer", step_of(make_state(case, copy.deepcopy(network)), kornia_method, batch), judge),
        Contender("perturb + restore + loss", "part", our_part(case, method, batch), lambda raw: []),
    ]
    return Contest(case, tuple(contenders), {})


def our_method() -> S4Net:
    ranges = AffineRanges(DEGREES, (TRANSLATE, TRANSLATE), SCALE)
    return S4Net(Normalization(MEAN, STD, "imagenet"), ranges, MethodConfig(), STEPS)


def make_batch(case: Case) -> Batch:
    generator = torch.Generator().manual_seed(6)

    def crops(count: int, labelled: bool) -> Crops:
        images = torch.randint(0, 256, (count, 3, *case.size), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, case.channels, (count, 1, *case.size), generator=generator, dtype=torch.uint8)
        ids = tuple(str(i) for i in range(count))
        return Crops(images, None, labels if labelled else None, ids).to(torch.device(case.device))

    return Batch(
        STEP,
        torch.zeros(1, dtype=torch.int64, device=case.device),
        crops(case.batch, True),
        crops(case.batch // 2, False),
    )


def make_state(case: Case, network: nn.Module) -> TrainingState:
    config = TrainConfig(steps=STEPS, precision={"float32": "fp32", "bfloat16": "bf16"}[case.dtype])
    return TrainingState(network.train(), config, torch.device(case.device))


def losses_of(state: TrainingState, method: S4Net, batch: Batch) -> Losses:
    """Without a step: what a fresh network makes of the batch."""
    with torch.autocast(state.device.type, state.autocast, enabled=state.autocast is not None), torch.no_grad():
        return method.losses(state.network, batch)


def step_of(state: TrainingState, method: S4Net, batch: Batch) -> Callable[[], Losses]:
    return lambda: state.train_on(method, batch)


def our_part(case: Case, method: S4Net, batch: Batch) -> Callable[[], tuple[Tensor, ...]]:
    """Views, and loss and gradients of predictions that are there already."""
    assert batch.unlabeled is not None
    crops = batch.unlabeled
    shape = (len(crops.ids), case.channels, *case.size)
    dtype = torch.bfloat16 if case.dtype == "bfloat16" else torch.float32
    leaves = [torch.randn(shape, device=case.device).to(dtype).requires_grad_() for _ in range(2)]

    def run() -> tuple[Tensor, ...]:
        view1, view2 = method.views(crops, batch)
        loss = consistency_terms(leaves[0], view1, leaves[1], view2).loss
        return torch.autograd.grad(loss, leaves)

    return run


@dataclass(frozen=True)
class KorniaS4Net(S4Net):
    """The same step of Kornia's functions. It is given the motions that ours draws in every step.

    Args:
        flips: Of the labelled images.
        motions: Of both views, flips included.
    """

    flips: AffineTransform
    motions: tuple[AffineTransform, AffineTransform]

    @classmethod
    def of(cls, method: S4Net, batch: Batch) -> "KorniaS4Net":
        assert batch.unlabeled is not None
        flips = random_flips(batch.labeled, batch.seeds("flip/labeled", len(batch.labeled.ids)))
        view1, view2 = method.views(batch.unlabeled, batch)
        motions = (view1.transform, view2.transform)
        return cls(method.normalization, method.ranges, method.config, method.steps, flips, motions)

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        assert batch.unlabeled is not None
        images = kornia_warp(self.flips)(self.normalization.apply(batch.labeled.images, None))
        assert batch.labeled.labels is not None
        labels = kornia_warp(self.flips)(batch.labeled.labels.float())[:, 0].round().long()
        ones = torch.ones_like(batch.unlabeled.images[:, :1], dtype=torch.float32)
        crops = self.normalization.apply(batch.unlabeled.images, None)
        views = [kornia_warp(motion)(crops) for motion in self.motions]
        seen = [kornia_warp(motion)(ones) for motion in self.motions]
        parts = [images, *views]
        logits, *predictions = network(torch.cat(parts)).split([len(part) for part in parts])
        supervised = cross_entropy(logits, labels)
        consistency = self.consistency(predictions, seen)
        weight = self.weight(batch.step)
        total = supervised + weight * consistency
        return Losses(total, supervised.detach(), consistency.detach(), weight, consistency.detach())

    def consistency(self, predictions: list[Tensor], seen: list[Tensor]) -> Tensor:
        # Without this its coordinates were of 16 bits, and pixels off.
        with torch.autocast(predictions[0].device.type, enabled=False):
            undo = [kornia_warp(motion.inverse()) for motion in self.motions]
            one, other = (move(p.float().softmax(1)) for move, p in zip(undo, predictions, strict=True))
            first, second = (
                move((mask > MASK_THRESHOLD).float()) > MASK_THRESHOLD for move, mask in zip(undo, seen, strict=True)
            )
            return masked_mean_square(one, other, first & second)

"""The contest of a whole training step of S4Net, and of the part of it that is ours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from s4aug import AffineTransform, consistency_terms
from s4aug_train.data.pool import Crops
from s4aug_train.methods import Batch, Losses, Method
from s4aug_train.methods.s4net import S4Net
from s4aug_train.methods.supervision import cross_entropy
from s4aug_train.methods.views import flips_of

from .cases import Case
from .consistency import masked_mean_square
from .contest import Contender, Contest, Finding
from .peers import MASK_THRESHOLD, kornia_warp
from .training import LOSS_SHARE, STEP, losses_of, make_network, make_setup, make_state


def step_contest(case: Case) -> Contest:
    """Losses of the first step agree; then steps are timed as they go on."""
    network = make_network(case)
    method = S4Net(make_setup(case))
    batch = make_batch(case, method)
    with torch.no_grad():
        expected = losses_of(make_state(method, network), method, batch)

    def judge(told: dict[str, Tensor]) -> list[Finding]:
        pairs = (
            ("total", told["loss"], expected.total),
            ("consistency", told["loss_consistency"], expected.unsupervised),
        )
        return [Finding(what, float((a / b - 1).abs()), LOSS_SHARE[case.dtype]) for what, a, b in pairs]

    kornia_method = KorniaS4Net.of(method, batch)
    contenders = [
        Contender("s4aug", "ours", step_of(method, network, batch), judge),
        Contender("Kornia", "peer", step_of(kornia_method, network, batch), judge),
        Contender("perturb + restore + loss", "part", our_part(case, method, batch), lambda raw: []),
    ]
    return Contest(case, tuple(contenders), {})


def make_batch(case: Case, method: Method) -> Batch:
    generator = torch.Generator().manual_seed(6)

    def crops(count: int, labelled: bool) -> Crops:
        images = torch.randint(0, 256, (count, 3, *case.size), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, case.channels, (count, 1, *case.size), generator=generator, dtype=torch.uint8)
        ids = tuple(str(i) for i in range(count))
        return Crops(images, None, labels if labelled else None, ids)

    key, weight = torch.zeros(1, dtype=torch.int64), torch.tensor(method.weight(STEP))
    batch = Batch(STEP, 0, key, weight, crops(case.batch, True), crops(case.batch // 2, False))
    return batch.to(torch.device(case.device))


def step_of(method: Method, network: nn.Module, batch: Batch) -> Callable[[], dict[str, Tensor]]:
    state = make_state(method, network)
    return lambda: state.train_on([batch]).told


def our_part(case: Case, method: S4Net, batch: Batch) -> Callable[[], tuple[Tensor, ...]]:
    """Views, and loss and gradients of predictions that are there already."""
    shape = (case.batch // 2, case.channels, *case.size)
    dtype = torch.bfloat16 if case.dtype == "bfloat16" else torch.float32
    leaves = [torch.randn(shape, device=case.device).to(dtype).requires_grad_() for _ in range(2)]

    def run() -> tuple[Tensor, ...]:
        view1, view2 = method.views(batch)
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
        flips = flips_of(method.setup, batch.labeled, batch, "labeled")
        view1, view2 = method.views(batch)
        return cls(method.setup, flips, (view1.transform, view2.transform))

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        assert batch.labeled.labels is not None
        assert batch.unlabeled is not None
        normalize = self.setup.normalization.apply
        images = kornia_warp(self.flips)(normalize(batch.labeled.images, None))
        labels = kornia_warp(self.flips)(batch.labeled.labels.float())[:, 0].round().long()
        ones = torch.ones_like(batch.unlabeled.images[:, :1], dtype=torch.float32)
        crops = normalize(batch.unlabeled.images, None)
        views = [kornia_warp(motion)(crops) for motion in self.motions]
        seen = [kornia_warp(motion)(ones) for motion in self.motions]
        parts = [images, *views]
        logits, *predictions = network(torch.cat(parts)).split([len(part) for part in parts])
        supervised = cross_entropy(logits, labels)
        consistency, share = self.consistency(predictions, seen)
        total = supervised + batch.weight * consistency
        return Losses(total, supervised.detach(), consistency.detach(), share)

    def consistency(self, predictions: list[Tensor], seen: list[Tensor]) -> tuple[Tensor, Tensor]:
        # Without this its coordinates were of 16 bits, and pixels off.
        with torch.autocast(predictions[0].device.type, enabled=False):
            undo = [kornia_warp(motion.inverse()) for motion in self.motions]
            one, other = (move(p.float().softmax(1)) for move, p in zip(undo, predictions, strict=True))
            first, second = (
                move((mask > MASK_THRESHOLD).float()) > MASK_THRESHOLD for move, mask in zip(undo, seen, strict=True)
            )
            real = first & second
            return masked_mean_square(one, other, real), real.float().mean()

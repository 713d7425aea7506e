"""Contests of the consistency objective: two predictions undone, masked and compared, and both gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from s4aug import View, Warped, warp

from .backends import ROUNDING, objectives
from .cases import DTYPES, Case
from .contest import Contender, Contest, Finding, compared
from .inputs import make_motion
from .peers import MASK_THRESHOLD, grid_warp, kornia_warp
from .warping import copy_contender

Loss = Callable[[Tensor, Tensor], Tensor]
Result = tuple[Tensor, Tensor, Tensor]  # loss, both gradients
# Masks of warped ones are wrong about up to 1 % of the pixels, which the loss averages over.
MASK_SHARE = 0.01
# Of the largest gradient, away from where such masks may be wrong.
PEER_GRADIENT = 0.05


@dataclass(frozen=True, eq=False)
class Pair:
    """Two predictions and the views that they are for."""

    predictions: tuple[Tensor, Tensor]  # each [B, K, h, w]
    views: tuple[View, View]


def make_pair(case: Case) -> Pair:
    blank = torch.zeros(case.batch, 1, *case.size, device=case.device)
    first, second = (View.of(blank, make_motion(case.batch, case.size, case.device, i).transform) for i in (0, 1))
    return Pair((logits(case, 4), logits(case, 5)), (first, second))


def logits(case: Case, seed: int) -> Tensor:  # [B, K, h, w]
    noise = torch.randn(case.batch, case.channels, *case.size, generator=torch.Generator().manual_seed(seed))
    return noise.to(DTYPES[case.dtype]).to(case.device)


def objective_contest(case: Case) -> Contest:
    """Loss and the gradients of both predictions."""
    pair = make_pair(case)
    ours, refused = objectives(case.device)
    truth = gradients_of(reference_loss(pair), pair)()
    contenders = [
        Contender(
            name,
            "ours",
            gradients_of(partial(on_views, loss, pair), pair),
            objective_judge(truth, ROUNDING[case.dtype], ROUNDING[case.dtype]),
            lambda result: list(result[1:]),
        )
        for name, loss in ours.items()
    ]
    interior = interiors(pair)
    for name, make_warp in (("Kornia + masks", kornia_warp), ("grid_sample + masks", grid_warp)):
        run = gradients_of(composed_loss(pair, make_warp), pair)
        judge = objective_judge(truth, MASK_SHARE, PEER_GRADIENT, interior)
        contenders.append(Contender(name, "peer", run, judge, lambda result: list(result[1:])))
    contenders.append(copy_contender([(each, torch.empty_like(each)) for each in pair.predictions]))
    return Contest(case, tuple(contenders), refused)


def on_views(loss: Callable[..., Tensor], pair: Pair, first: Tensor, second: Tensor) -> Tensor:
    return loss(first, pair.views[0], second, pair.views[1])


def gradients_of(loss: Loss, pair: Pair) -> Callable[[], Result]:
    leaves = [prediction.clone().requires_grad_() for prediction in pair.predictions]

    def run() -> Result:
        value = loss(*leaves)
        first, second = torch.autograd.grad(value, leaves)
        return value.detach(), first, second

    return run


def objective_judge(
    truth: Result, loss_share: float, gradient_share: float, where: tuple[Tensor, Tensor] | None = None
) -> Callable[[Result], list[Finding]]:
    """Limits as shares of the true loss and of the largest true gradient."""

    def judge(result: Result) -> list[Finding]:
        found = [Finding("loss", float((result[0] / truth[0] - 1).abs()), loss_share)]
        for i in (1, 2):
            limit = gradient_share * float(truth[i].abs().max())
            found.append(compared(f"gradient {i}", result[i], truth[i], limit, None if where is None else where[i - 1]))
        return found

    return judge


def reference_loss(pair: Pair) -> Loss:
    """The definition, of reference warps alone."""

    def undone(prediction: Tensor, view: View) -> Warped:
        return warp(prediction.float().softmax(1), view.transform.inverse(), valid=view.valid, backend="torch")

    def loss(first: Tensor, second: Tensor) -> Tensor:
        (one, seen1), (other, seen2) = (undone(p, v) for p, v in zip((first, second), pair.views, strict=True))
        return masked_mean_square(one, other, seen1 & seen2)

    return loss


def composed_loss(pair: Pair, make_warp: Callable) -> Loss:  # type: ignore[type-arg]
    """A peer's warp of the probabilities and of the views' masks, which it is given."""
    undo = [make_warp(view.transform.inverse()) for view in pair.views]
    seen = [view.valid.float() for view in pair.views]

    def loss(first: Tensor, second: Tensor) -> Tensor:
        one, other = (move(p.float().softmax(1)) for move, p in zip(undo, (first, second), strict=True))
        masks = [move(mask) > MASK_THRESHOLD for move, mask in zip(undo, seen, strict=True)]
        return masked_mean_square(one, other, masks[0] & masks[1])

    return loss


def masked_mean_square(one: Tensor, other: Tensor, real: Tensor) -> Tensor:
    squares = (one - other) ** 2 * real
    return squares.sum() / (real.sum().clamp_min(1) * one.shape[1])


def interiors(pair: Pair) -> tuple[Tensor, Tensor]:
    """For each prediction the pixels whose gradient comes from places at least 3 px inside the joint mask."""
    seen = [
        warp(view.valid.float(), view.transform.inverse(), valid=view.valid, backend="torch").valid
        for view in pair.views
    ]
    hole = (~(seen[0] & seen[1])).float()  # [B, 1, h, w]
    near = F.max_pool2d(F.pad(hole, (3, 3, 3, 3), value=1.0), 7, 1) == 0
    first, second = (warp(hole, view.transform, valid=near, backend="torch").valid for view in pair.views)
    return first, second

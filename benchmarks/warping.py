"""Contests of the warp: forward with the mask, forward and backward, backward alone."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from s4aug import AffineTransform, Warped, warp

from .backends import ROUNDING, backends, label
from .cases import DTYPES, Case
from .contest import Contender, Contest, Finding, compared, same_mask
from .inputs import make_image, make_motion
from .peers import Warper, warpers

# A source pixel collects from at most this many output pixels at the paper's scales, with |gradient| up to 1/2.
COLLECTED = 9
# A weight changes by at most this much per px that a point is off, over both axes.
STEEPNESS = 2
MASK_SHARE = 0.01  # a warped mask of ones may be wrong about so many pixels


def forward_contest(case: Case) -> Contest:
    """One warp with its mask."""
    image, motion = make_image(case), make_motion(case.batch, case.size, case.device)
    transform, dtype = motion.transform, output_dtype(case)
    names, refused = backends(case.device)
    truth = warp(image, transform, dtype=dtype, backend="torch")

    def judge_ours(warped: Warped) -> list[Finding]:
        limit = ROUNDING[case.dtype] * value_range(case)
        return [compared("image", warped.image, truth.image, limit), same_mask(warped.valid, truth.valid)]

    contenders = [
        Contender(
            label(name),
            "ours",
            partial(warp, image, transform, dtype=dtype, backend=name),
            judge_ours,
            lambda warped: list(warped),
        )
        for name in names
    ]
    others, reasons = warpers(case, image, motion)
    contenders += [forward_peer(case, peer, image, truth) for peer in others]
    contenders.append(copy_contender([(image, torch.empty_like(truth.image))]))
    return Contest(case, tuple(contenders), refused | reasons)


def output_dtype(case: Case) -> torch.dtype:
    return torch.float32 if case.dtype == "uint8" else DTYPES[case.dtype]


def value_range(case: Case) -> float:
    return 255.0 if case.dtype == "uint8" else 1.0


def forward_peer(case: Case, peer: Warper, image: Tensor, truth: Warped) -> Contender:
    source = image if peer.image is None else peer.image
    limit = value_range(case) * (STEEPNESS * peer.error_px + ROUNDING[case.dtype]) + peer.rounding

    def judge(raw: Any) -> list[Finding]:
        shown, mask = peer.shown(raw)
        wanted = truth if peer.moved_by is None else reference(image, peer.moved_by(raw))
        found = [compared("image", shown, wanted.image, limit, wanted.valid)]
        return found if mask is None else [*found, same_mask(mask, wanted.valid, MASK_SHARE)]

    return Contender(peer.name, "peer", lambda: peer.move(source), judge)


def reference(image: Tensor, transform: AffineTransform) -> Warped:
    return warp(image, transform, dtype=torch.float32, backend="torch")


def copy_contender(pairs: list[tuple[Tensor, Tensor]]) -> Contender:  # (source, target) of one shape each
    """The limit: the bytes that go in are read once, those that come out written once."""

    def copy() -> list[Tensor]:
        return [target.copy_(source) for source, target in pairs]

    def judge(copies: list[Tensor]) -> list[Finding]:
        return [
            compared("copy", copied, source.to(copied.dtype), 0.0)
            for copied, (source, _) in zip(copies, pairs, strict=True)
        ]

    return Contender("copy", "limit", copy, judge)


def gradient_contest(case: Case) -> Contest:
    """One warp and the gradient of its image; of kind "backward" the gradient alone."""
    image, motion = make_image(case), make_motion(case.batch, case.size, case.device)
    transform = motion.transform
    names, refused = backends(case.device)
    valid = warp(image, transform, backend="torch").valid
    # What peers do where nothing real is shown is their own affair.
    weight = (make_image(replace(case, dtype="float32"), seed=2) - 0.5).to(image.dtype) * valid
    moves: dict[str, tuple[str, float, Callable[[Tensor], Tensor]]] = {}
    for name in names:
        moves[label(name)] = "ours", 0.0, partial(moved_by, transform, name)
    for peer in warpers(case, image, motion)[0]:
        if peer.differentiable:
            moves[peer.name] = "peer", peer.error_px, partial(shown_by, peer)
    expected = gradient_of(partial(moved_by, transform, "torch"), image, weight)()
    contenders = []
    for name, (role, error_px, move) in moves.items():
        judge = gradient_judge(case, expected, valid, error_px)
        run = gradient_of(move, image, weight, backward_alone=case.kind == "backward")
        contenders.append(Contender(name, role, run, judge, lambda pair: [pair[1]]))
    copies = [(weight, torch.empty_like(image))]
    if case.kind != "backward":
        copies = [(image, torch.empty_like(image)), *copies]
    reasons = {"OpenCV": "has no gradient", "fuse-augmentations": "draws its own motions: no gradient to compare"}
    return Contest(case, (*contenders, copy_contender(copies)), refused | reasons)


def moved_by(transform: AffineTransform, backend: str, image: Tensor) -> Tensor:
    return warp(image, transform, backend=backend).image


def shown_by(peer: Warper, image: Tensor) -> Tensor:
    return peer.shown(peer.move(image))[0]


def gradient_of(
    move: Callable[[Tensor], Tensor],
    image: Tensor,  # [B, C, H, W]
    weight: Tensor,  # [B, C, h, w]
    *,
    backward_alone: bool = False,
) -> Callable[[], tuple[Tensor, Tensor]]:
    """The work: the moved image, and the gradient of its sum weighted by `weight`."""
    leaf = image.clone().requires_grad_()
    kept = move(leaf) if backward_alone else None

    def run() -> tuple[Tensor, Tensor]:
        moved = move(leaf) if kept is None else kept
        (gradient,) = torch.autograd.grad(moved, leaf, weight, retain_graph=kept is not None)
        return moved.detach(), gradient

    return run


def gradient_judge(
    case: Case, expected: tuple[Tensor, Tensor], valid: Tensor, error_px: float
) -> Callable[[tuple[Tensor, Tensor]], list[Finding]]:
    rounding = ROUNDING[case.dtype]
    off = STEEPNESS * error_px

    def judge(got: tuple[Tensor, Tensor]) -> list[Finding]:
        return [
            compared("image", got[0], expected[0], off + rounding, valid),
            compared("gradient", got[1], expected[1], COLLECTED / 2 * (off + rounding)),
        ]

    return judge

"""Contests of what a loader does: crop, flip, affine and normalise, from 8-bit tiles to network input."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import kornia
import kornia.augmentation as K
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from s4aug import AffineTransform, Warped, warp

from .backends import ROUNDING, backends, label
from .cases import Case, Size
from .contest import Contender, Contest, Finding, compared, same_mask
from .inputs import DEGREES, MEAN, SCALE, STD, TRANSLATE, Motion, make_image, make_motion
from .peers import (
    FLOAT32_PX,
    OPENCV_PX,
    channels_last,
    kornia_warp,
    opencv_refusal,
    opencv_warp,
    stacked,
    vision_affine,
)
from .warping import STEEPNESS, copy_contender

Judge = Callable[[Any], list[Finding]]
WHITE = 255 / min(STD)  # the range of normalised values


@dataclass(frozen=True, eq=False)
class Plan:
    """What happens to each tile."""

    tiles: Tensor  # [B, C, 2H, 2W] uint8
    top: Tensor  # [B] int64
    left: Tensor  # [B] int64
    hflip: Tensor  # [B] bool
    vflip: Tensor  # [B] bool
    crop: AffineTransform
    flip: AffineTransform
    motion: Motion

    @property
    def whole(self) -> AffineTransform:
        """From the tile to the network's input."""
        return self.motion.transform @ self.flip @ self.crop


def make_plan(case: Case) -> Plan:
    height, width = case.size
    tile_size = (2 * height, 2 * width)
    generator = torch.Generator().manual_seed(3)
    top, left = (torch.randint(0, side + 1, (case.batch,), generator=generator) for side in case.size)
    hflip, vflip = (torch.arange(case.batch) % period >= period // 2 for period in (2, 4))
    scale = torch.stack([1 - 2 * hflip.double(), 1 - 2 * vflip.double()], 1)
    return Plan(
        make_image(case, tile_size),
        top,
        left,
        hflip,
        vflip,
        AffineTransform.crop(top, left, case.size, tile_size).to(case.device),
        AffineTransform.from_params(scale=scale, size=case.size).to(case.device),
        make_motion(case.batch, case.size, case.device),
    )


def pool_contest(case: Case) -> Contest:
    """One resampling of ours, and the chains of the peers."""
    plan = make_plan(case)
    names, refused = backends(case.device)
    truth = our_pool(plan, "torch")
    # Peers crop first, so what lies beyond the crop is not there for them.
    cropped = warp(plan.tiles, plan.crop, mode="nearest", backend="torch").image
    seen = warp(cropped, plan.motion.transform @ plan.flip, dtype=torch.float32, backend="torch").valid

    def judge_ours(warped: Warped) -> list[Finding]:
        image = compared("image", warped.image, truth.image, ROUNDING["uint8"] * WHITE)
        return [image, same_mask(warped.valid, truth.valid)]

    def judge(shown: Callable[[Any], Tensor], error_px: float, rounding: float = 0.0) -> Judge:
        limit = (STEEPNESS * error_px + ROUNDING["uint8"]) * WHITE + rounding / min(STD)
        return lambda raw: [compared("image", shown(raw), truth.image, limit, seen)]

    def same(raw: Tensor) -> Tensor:
        return raw

    contenders = [Contender(label(name), "ours", partial(our_pool, plan, name), judge_ours, list) for name in names]
    contenders.append(Contender("Kornia chain", "peer", kornia_chain(plan), judge(same, FLOAT32_PX)))
    contenders.append(kornia_augmentations(case, plan.tiles))
    contenders.append(Contender("torchvision v2", "peer", vision_chain(plan), judge(same, FLOAT32_PX)))
    reason = opencv_refusal(case)
    if reason is None:
        contenders.append(Contender("OpenCV", "peer", opencv_chain(plan), judge(stacked, OPENCV_PX, 0.5)))
    else:
        refused["OpenCV"] = reason
    contenders.append(copy_contender([(cropped, torch.empty_like(truth.image))]))
    return Contest(case, tuple(contenders), refused)


def our_pool(plan: Plan, backend: str) -> Warped:
    return warp(plan.tiles, plan.whole, normalize=(MEAN, STD), dtype=torch.float32, backend=backend)


def kornia_chain(plan: Plan) -> Callable[[], Tensor]:
    """Its functions with the parameters given: less than its users have to do."""
    side = plan.crop.out_size
    places = list(zip(plan.top.tolist(), plan.left.tolist(), strict=True))
    move = kornia_warp(plan.motion.transform)
    mean, std = (torch.tensor(numbers, device=plan.tiles.device) for numbers in (MEAN, STD))
    hflip, vflip = (flips.nonzero()[:, 0].to(plan.tiles.device) for flips in (plan.hflip, plan.vflip))

    def run() -> Tensor:
        pairs = zip(plan.tiles, places, strict=True)
        crops = torch.stack([tile[:, top : top + side[0], left : left + side[1]] for tile, (top, left) in pairs])
        images = crops.float()
        images[hflip] = kornia.geometry.hflip(images[hflip])
        images[vflip] = kornia.geometry.vflip(images[vflip])
        return kornia.enhance.normalize(move(images), mean, std)

    return run


def kornia_augmentations(case: Case, tiles: Tensor) -> Contender:
    """Its modules, as its users write them; they draw for themselves, and tell the matrix."""
    mean, std = (torch.tensor(numbers) for numbers in (MEAN, STD))
    chain = K.AugmentationSequential(
        K.RandomCrop(case.size, p=1.0, cropping_mode="slice"),
        K.RandomHorizontalFlip(),
        K.RandomVerticalFlip(),
        K.RandomAffine(DEGREES, (TRANSLATE, TRANSLATE), SCALE, p=1.0, align_corners=True),
        K.Normalize(mean, std),
        data_keys=["input"],
    )

    def judge(raw: tuple[Tensor, Tensor, Tensor]) -> list[Finding]:
        image, matrix, corner = raw
        moved = AffineTransform(matrix.double(), (tiles.shape[-2], tiles.shape[-1]), case.size)
        there = window_mask(tiles, corner, case.size)
        wanted = warp(tiles, moved, valid=there, normalize=(MEAN, STD), dtype=torch.float32, backend="torch")
        limit = (2 * STEEPNESS * FLOAT32_PX + ROUNDING["uint8"]) * WHITE
        return [compared("image", image, wanted.image, limit, wanted.valid)]

    def run() -> tuple[Tensor, Tensor, Tensor]:
        image = chain(tiles.float())
        # Where it cropped is told nowhere else: the first corner of the window, (x, y).
        first: Any = chain._params[0]  # type: ignore[index]
        return image, chain.transform_matrix, first.data["src"][:, 0]  # type: ignore[return-value]

    return Contender("Kornia augmentations", "peer", run, judge)


def window_mask(tiles: Tensor, corner: Tensor, size: Size) -> Tensor:  # [B, 2] -> [B, 1, H, W] bool
    corner = corner.round().to(tiles.device)[:, :, None, None]
    x = torch.arange(tiles.shape[-1], device=tiles.device)[None, None] - corner[:, :1]  # [B, 1, 1, W]
    y = torch.arange(tiles.shape[-2], device=tiles.device)[None, :, None] - corner[:, 1:]  # [B, 1, H, 1]
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])


def vision_chain(plan: Plan) -> Callable[[], Tensor]:
    numbers = [plan.top, plan.left, plan.hflip, plan.vflip, *vars_of(plan.motion)]
    steps = list(zip(plan.tiles, *(column.tolist() for column in numbers), strict=True))
    side = plan.crop.out_size

    def one(tile: Tensor, top: int, left: int, hflip: bool, vflip: bool, *affine: Any) -> Tensor:
        image = vision.crop(tile, top, left, *side)
        image = vision.horizontal_flip(image) if hflip else image
        image = vision.vertical_flip(image) if vflip else image
        return vision.normalize(vision_affine(image.float(), *affine), list(MEAN), list(STD))

    return lambda: torch.stack([one(*step) for step in steps])


def vars_of(motion: Motion) -> tuple[Tensor, Tensor, Tensor]:
    return motion.angle_deg, motion.shift_px, motion.scale


def opencv_chain(plan: Plan) -> Callable[[], list[np.ndarray]]:
    """One warp from the 8-bit tile, then normalised; what the warp gives is rounded to 8 bits."""
    pictures, move = channels_last(plan.tiles), opencv_warp(plan.whole)
    mean, std = (np.asarray(numbers, np.float32) for numbers in (MEAN, STD))
    return lambda: [(picture - mean) / std for picture in move(pictures)]

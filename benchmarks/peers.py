"""The warps that a user would pick instead, each as its users call it.

Matrices, grids' parameters and layouts that a peer needs are prepared outside of what is timed, in the peer's favour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import cv2
import kornia
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from s4aug import AffineTransform

from .cases import Case, Size
from .inputs import DEGREES, SCALE, TRANSLATE, Motion

# Where a peer may sample beside the true point, px along each axis: float32 coordinates; OpenCV's 1/32 px, rounded.
FLOAT32_PX, OPENCV_PX = 1e-3, 1 / 48
MASK_THRESHOLD = 0.999


@dataclass(frozen=True, eq=False)
class Warper:
    """A peer's way to move a batch.

    Args:
        name: As in tables.
        move: From the image to whatever the peer returns.
        shown: From that to the image [B, C, h, w] and the mask [B, 1, h, w], or None.
        error_px: How far from the true point it may sample.
        rounding: Of its values, in units of theirs.
        differentiable: In the image.
        moved_by: From what it returns to the transform it used, where it draws its own.
    """

    name: str
    move: Callable[[Any], Any]
    shown: Callable[[Any], tuple[Tensor, Tensor | None]]
    error_px: float = FLOAT32_PX
    rounding: float = 0.0
    differentiable: bool = True
    moved_by: Callable[[Any], AffineTransform] | None = None
    image: Any = field(default=None)  # in the peer's own layout, where it is not the case's


def warpers(case: Case, image: Tensor, motion: Motion) -> tuple[list[Warper], dict[str, str]]:
    """The peers that can do a case, and those that cannot, with the reason."""
    found, refused = [*tensor_warpers(case, motion)], {}
    reason = opencv_refusal(case)
    if reason is None:
        found.append(opencv_warper(image, motion.transform))
    else:
        refused["OpenCV"] = reason
    if find_spec("fuse_augmentations") is None:
        refused["fuse-augmentations"] = "not installed"
    else:
        found.append(fuse_warper(case))
    return found, refused


def tensor_warpers(case: Case, motion: Motion) -> list[Warper]:
    """Kornia without and with a mask, grid_sample, torchvision."""
    kornia_mask = KorniaMask(case.batch, motion.transform, case.device)
    moves = {
        "Kornia": kornia_warp(motion.transform),
        "grid_sample": grid_warp(motion.transform),
        "torchvision v2": vision_warp(motion),
    }
    found = [Warper(name, through_float32(move, case.dtype), lambda raw: (raw, None)) for name, move in moves.items()]
    plain = found[0].move
    masked = Warper("Kornia + mask", lambda image: (plain(image), kornia_mask()), lambda raw: raw)
    return [found[0], masked, *found[1:]]


def through_float32(move: Callable[[Tensor], Tensor], dtype: str) -> Callable[[Tensor], Tensor]:
    """In 16 bits coordinates of these peers are off by pixels, so whoever is careful goes through float32."""
    if dtype == "float32":
        return move
    if dtype == "uint8":
        return lambda image: move(image.float())
    return lambda image: move(image.float()).to(image.dtype)


def kornia_warp(transform: AffineTransform) -> Callable[[Tensor], Tensor]:
    matrix, out_size = transform.matrix[:, :2].float(), transform.out_size
    return lambda image: kornia.geometry.warp_affine(image, matrix, out_size, align_corners=True)


class KorniaMask:
    """What Kornia's users do for a mask: they warp one of ones, and cut it off."""

    def __init__(self, batch: int, transform: AffineTransform, device: str) -> None:
        self.ones = torch.ones(batch, 1, *transform.size, device=device)
        self.warp = kornia_warp(transform)

    def __call__(self) -> Tensor:  # [B, 1, h, w] bool
        return self.warp(self.ones) > MASK_THRESHOLD


def grid_warp(transform: AffineTransform) -> Callable[[Tensor], Tensor]:
    theta, out_size = grid_theta(transform), transform.out_size

    def move(image: Tensor) -> Tensor:
        grid = F.affine_grid(theta, [*image.shape[:2], *out_size], align_corners=True)
        return F.grid_sample(image, grid, align_corners=True)

    return move


def grid_theta(transform: AffineTransform) -> Tensor:  # [B, 2, 3] float32
    """The inverse matrix in coordinates that run from -1 to 1 between the middles of the outermost pixels."""
    inverse = transform.inverse().matrix
    to_unit, from_unit = (unit_frame(size, inverse) for size in (transform.size, transform.out_size))
    return (to_unit @ inverse @ torch.linalg.inv(from_unit))[:, :2].float()


def unit_frame(size: Size, like: Tensor) -> Tensor:  # [3, 3]
    height, width = size
    return like.new_tensor([[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1], [0, 0, 1]])


def vision_warp(motion: Motion) -> Callable[[Tensor], Tensor]:
    numbers = list(zip(motion.angle_deg.tolist(), motion.shift_px.tolist(), motion.scale.tolist(), strict=True))
    return lambda images: torch.stack([vision_affine(one, *each) for one, each in zip(images, numbers, strict=True)])


def vision_affine(image: Tensor, angle: float, shift: Sequence[float], scale: float) -> Tensor:  # [C, H, W]
    # Its angles are clockwise.
    options = {"angle": -angle, "translate": list(shift), "scale": scale, "shear": [0.0, 0.0]}
    return vision.affine(image, **options, interpolation=InterpolationMode.BILINEAR)


def opencv_refusal(case: Case) -> str | None:
    if case.device != "cpu":
        return "works on the CPU alone"
    return "has no such type" if case.dtype in ("bfloat16", "float16") else None


def opencv_warper(image: Tensor, transform: AffineTransform) -> Warper:
    """Image by image, in its own layout [H, W, C], with its own threads; 8-bit images stay so."""
    pictures = channels_last(image)
    whole = image.dtype == torch.uint8
    return Warper(
        "OpenCV",
        opencv_warp(transform),
        lambda raw: (stacked(raw), None),
        error_px=OPENCV_PX,
        rounding=0.5 if whole else 0.0,
        differentiable=False,
        image=pictures,
    )


def opencv_warp(transform: AffineTransform) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    matrices, (height, width) = transform.matrix[:, :2].cpu().numpy(), transform.out_size

    def move(pictures: list[np.ndarray]) -> list[np.ndarray]:
        pairs = zip(pictures, matrices, strict=True)
        return [cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR) for picture, matrix in pairs]

    return move


def channels_last(image: Tensor) -> list[np.ndarray]:
    return list(np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy()))


def stacked(pictures: list[np.ndarray]) -> Tensor:  # -> [B, C, H, W]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def fuse_warper(case: Case) -> Warper:
    """It has no call with given motions: it draws its own from the same ranges, and tells the matrices."""
    from fuse_augmentations import Compose  # type: ignore[import-not-found]

    height, width = case.size
    pipeline = Compose.from_params(
        rotation=(-DEGREES, DEGREES),
        scale=SCALE,
        translate_x=(-TRANSLATE * width, TRANSLATE * width),
        translate_y=(-TRANSLATE * height, TRANSLATE * height),
    )

    def move(image: Tensor) -> tuple[Tensor, Tensor]:
        return pipeline(image.float(), return_matrix=True)

    return Warper(
        "fuse-augmentations",
        move,
        lambda raw: (raw[0], None),
        error_px=2 * FLOAT32_PX,
        differentiable=False,
        moved_by=lambda raw: AffineTransform(raw[1].double(), case.size),
    )

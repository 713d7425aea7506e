"""Warps that Numba's kernels are given, and their comparison with the reference."""

import math
from dataclasses import dataclass

import torch
from torch.testing import assert_close

from s4aug import AffineTransform, warp
from tests.s4aug.pixels import bits as raw_bits

MODES = ("bilinear", "nearest", "bicubic", "lifting")
SMOOTH = ("bilinear", "bicubic")
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)
MOTIONS = ("any", "gentle", "flat", "lattice", "halves", "rational", "far")
# Gradients are summed in another order than torch sums them; relative to the largest one.
SUMMED = {torch.float32: 2e-5, torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclass(frozen=True)
class Case:
    """All that a comparison hangs on; the numbers come from the seed."""

    seed: int = 0
    batch: int = 2
    channels: int = 3
    size: tuple[int, int] = (9, 14)
    out_size: tuple[int, int] = (11, 8)
    mode: str = "bilinear"
    padding: str = "fill"
    motion: str = "gentle"
    dtype: torch.dtype = torch.float32
    out_dtype: torch.dtype | None = None
    masked: bool = False
    normalized: bool = False
    special: bool = False
    channels_last: bool = False
    fill: float = 0.0

    def random(self):
        return torch.Generator().manual_seed(self.seed)

    def image(self):
        shape = (self.batch, self.channels, *self.size)
        made = pixels(shape, self.dtype, self.random(), special=self.special)
        return made.contiguous(memory_format=torch.channels_last) if self.channels_last else made

    def transform(self):
        return motion(self.motion, self.mode, self.batch, self.size, self.out_size, self.random())

    def options(self):
        generator = self.random()
        mask = torch.rand(self.batch, 1, *self.size, generator=generator) < 0.9
        statistics = torch.randn(self.channels, generator=generator), torch.rand(self.channels, generator=generator) + 1
        return {
            "mode": self.mode,
            "padding": self.padding,
            "fill": self.fill,
            "dtype": self.out_dtype,
            "valid": mask if self.masked else None,
            "normalize": statistics if self.normalized else None,
        }


def pixels(shape, dtype, generator, *, special=False):
    """Random values; `special`: NaN, infinities, both zeros, subnormals among them."""
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        return torch.randint(limits.min, min(limits.max, 2**62) + 1, shape, generator=generator).to(dtype)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    if special:
        odd = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, -0.0, 1e-40, 3e4], dtype=torch.float64)
        picked = odd[torch.randint(len(odd), shape, generator=generator)]
        values = torch.where(torch.rand(shape, generator=generator) < 0.15, picked, values)
    return values.to(dtype)


def motion(kind, mode, batch, size, out_size, generator):
    """Motions of a kind; for lifting those of them that keep area."""
    unit = torch.rand(batch, 8, generator=generator, dtype=torch.float64)
    side = torch.tensor([size[1], size[0]], dtype=torch.float64)
    scale, shear = torch.ones(batch, 2).double(), torch.zeros(batch, 2).double()
    if kind == "flat" and mode != "lifting":
        thin = 10 ** (-4 * unit[:, 0])  # near to singular
        linear = torch.stack([unit[:, 1] + 1, unit[:, 2], unit[:, 1] + 1, unit[:, 2] + thin], -1).unflatten(1, (2, 2))
        moved = (unit[:, 3:5] - 0.5) * side
        return AffineTransform(affine(linear, moved), size, out_size)
    if kind in ("lattice", "halves"):
        turns = torch.tensor([[[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1], [1, 0]]]).double()
        linear = turns[(4 * unit[:, 0]).long()]
        corner = (linear.clamp(max=0) @ (1 - side)).expand(batch, 2)  # what a flip moves out comes in again
        step = 1 if kind == "lattice" else 0.5
        moved = corner + step * ((unit[:, 3:5] - 0.5) * side * 0.7 / step).round()
        return AffineTransform(affine(linear, moved), size, out_size)
    if kind == "rational" and mode != "lifting":
        ratios = torch.tensor([3 / 4, 3, 7 / 5, 1 / 2, 1 / 3], dtype=torch.float64)
        factors = ratios[(5 * unit[:, :2]).long()]
        # Outer corner on outer corner, as resizing does.
        return AffineTransform(affine(torch.diag_embed(factors), factors / 2 - 0.5), size, out_size)
    moved = (unit[:, 3:5] - 0.5) * side * 0.5
    if kind == "any":
        scale, shear = 0.05 * 400 ** unit[:, 5:7], 60 * unit[:, 1:3] - 30
    if kind == "gentle":
        scale, shear = 0.8 + 0.4 * unit[:, 5:7], 20 * unit[:, 1:3] - 10
    if kind == "far":
        moved = moved * 1e6
    if mode == "lifting":
        scale, shear = torch.ones(batch, 2).double(), torch.zeros(batch, 2).double()
    general = AffineTransform.from_params(
        angle=360 * unit[:, 0], translation=moved, scale=scale, shear=shear, size=size
    )
    return AffineTransform(general.matrix, size, out_size)


def affine(linear, moved):  # [B, 2, 2], [B, 2] -> [B, 3, 3]
    top = torch.cat([linear, moved[..., None]], -1)
    return torch.cat([top, torch.tensor([0.0, 0, 1]).double().expand(len(top), 1, 3)], 1)


def bits(tensor):
    """Each value as an integer, all NaN alike: their bits hang on the processor."""
    if tensor.dtype.is_floating_point:
        tensor = torch.where(tensor.isnan(), torch.full_like(tensor, math.nan), tensor)
    return raw_bits(tensor)


def assert_same_bits(mine, theirs):
    assert mine.dtype == theirs.dtype
    assert mine.shape == theirs.shape
    if not torch.equal(bits(mine), bits(theirs)):
        wrong = (bits(mine) != bits(theirs)).nonzero()
        place = tuple(wrong[0].tolist())
        raise AssertionError(f"{len(wrong)} of {mine.numel()} differ; at {place}: {mine[place]} for {theirs[place]}")


def assert_as_reference(image, transform, *, mine="numba", **options):
    """The same bits in value and validity, in the order that the image's pixels have."""
    kept = image.detach().clone()
    shown, real = warp(image, transform, backend=mine, **options)
    expected, valid = warp(image, transform, backend="torch", **options)
    assert torch.equal(real, valid)
    assert_same_bits(shown, expected)
    assert_same_bits(image.detach(), kept)
    last = image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    assert shown.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return shown, real


def gradients(image, transform, backend, given, **options):
    """Of a warp, to the image and (pixels interpolated) to the inverse matrix; `given` comes from above."""
    image = image.detach().clone(memory_format=torch.preserve_format)
    image.requires_grad_(image.dtype.is_floating_point)
    inverse = transform.inverse().matrix.detach().clone().requires_grad_(options["mode"] in SMOOTH)
    moved = AffineTransform.from_linear(inverse[:, :2, :2], inverse[:, :2, 2], transform.out_size, transform.size)
    shown = warp(image, moved.inverse(), backend=backend, **options).image
    if shown.requires_grad:
        shown.backward(given.to(shown.dtype))
    return image.grad, inverse.grad


def assert_gradients_as_reference(case):
    image, transform, options = case.image(), case.transform(), case.options()
    shape = (case.batch, case.channels, *case.out_size)
    # All of one sign, so that the largest sum tells the scale of the rounding.
    given = torch.rand(shape, generator=case.random()) + 0.5
    mine = gradients(image, transform, "numba", given, **options)
    # 16-bit gradients are summed in 32 bits and rounded once; torch rounds each copy.
    wide = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
    options["dtype"] = options["dtype"] or image.dtype if image.is_floating_point() else options["dtype"]
    theirs = gradients(wide, transform, "torch", given.to(options["dtype"] or torch.float32), **options)
    if theirs[0] is not None:
        assert mine[0].dtype == image.dtype
        scale = theirs[0].abs().max().item() if theirs[0].numel() else 0.0
        compute = torch.float64 if options["dtype"] == torch.float64 else torch.float32
        limit = max(SUMMED[image.dtype], SUMMED[compute])
        assert_close(mine[0].to(theirs[0].dtype), theirs[0], rtol=limit, atol=limit * scale)
    if theirs[1] is not None:
        reach = torch.tensor([case.out_size[1], case.out_size[0], 1.0]).double()
        scale = given.sum().item() * image.double().abs().max().item() if image.numel() else 0.0
        # Statistics of a case divide by at least 1.
        limit = 1e-6 * scale * reach + 1e-12
        assert ((mine[1] - theirs[1])[:, :2].abs() <= limit).all()
    return mine

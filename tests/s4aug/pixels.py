"""Pixels of any type: how they are read, images of them, and their bits."""

import math

import torch

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("fill", "border", "reflection")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64)
CARRIER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor):
    """The bytes of each value as an integer, so that NaN and the sign of zero compare."""
    if tensor.dtype in (torch.float16, torch.bfloat16):
        # torch itself gives a 16-bit NaN other bits, when it gathers or converts: here all are one.
        tensor = torch.where(tensor.isnan(), torch.full_like(tensor, math.nan), tensor)
    return tensor.contiguous().view(CARRIER[tensor.element_size()])


def special_image(shape, dtype, generator):
    """Values of all kinds, no two bytes alike for integers: for floats NaN, infinities, -0.0 and subnormals too."""
    raw = torch.randint(-(2**62), 2**62, shape, generator=generator)
    if dtype == torch.bool:
        return raw % 2 == 0
    if not dtype.is_floating_point:
        return raw.view(dtype) if dtype.itemsize == 8 else (raw % 2 ** (8 * dtype.itemsize)).to(dtype)
    info = torch.finfo(dtype)
    special = [math.nan, math.inf, -math.inf, 0.0, -0.0, info.max, info.tiny, info.smallest_normal / 4]
    special = torch.tensor(special, dtype=torch.float64).to(dtype)
    picked = torch.randint(2 * len(special), shape, generator=generator)
    plain = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.where(picked < len(special), special[picked.clamp_max(len(special) - 1)], plain)

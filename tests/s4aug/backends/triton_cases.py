"""What Triton's kernels are given, where they run, and how they are compiled without a GPU."""

import math
import os
from types import SimpleNamespace

import pytest
import torch
from hypothesis import strategies as st

from s4aug import AffineTransform
from s4aug.backends.reference import warp_reference
from s4aug.lifting import Lifting
from s4aug.transform import fixed_point
from tests.s4aug.pixels import PADDINGS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
MODES = ("bilinear", "nearest", "bicubic", "lifting")
GRADIENT_TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
OLD_TRITON = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")  # in 3.6
# Of every test. The interpreter's NumPy warns where an infinite pixel is computed with.
MARKS = [
    pytest.mark.usefixtures("poison"),
    OLD_TRITON,
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]
runs = pytest.mark.skipif(not INTERPRETED and DEVICE == "cpu", reason="neither interpreted nor on a GPU")
compiled = pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")


def motion(kind, batch, size, out_size, generator):
    """Matrices of a kind, from frames of `size`."""
    random = torch.rand(batch, 8, generator=generator, dtype=torch.float64)
    centre = (random[:, :2] - 0.5) * torch.tensor([size[1], size[0]]) * 0.5
    if kind == "lattice":
        half = torch.randint(-3, 4, (batch, 2), generator=generator).double() / 2
        turned = AffineTransform.rot90(int(random.sum() * 100) % 4, batch, size)
        matrix = turned.matrix.clone()
        matrix[:, :2, 2] += half
        return AffineTransform(matrix, size, out_size)
    low, high = {"rigid": (1.0, 1.0), "mild": (0.5, 2.0), "extreme": (0.05, 20.0)}[kind]
    scale = torch.exp(math.log(low) + random[:, 2:4] * (math.log(high) - math.log(low)))
    shear = random[:, 4:6] * 60 - 30 if kind != "rigid" else torch.zeros(batch, 2, dtype=torch.float64)
    angle = random[:, 6] * (80 if kind == "rigid" else 360) - 40
    made = AffineTransform.from_params(angle=angle, translation=centre, scale=scale, shear=shear, size=size)
    # The middle of one frame on the middle of the other.
    matrix = made.matrix.clone()
    matrix[:, :2, 2] += torch.tensor([out_size[1] - size[1], out_size[0] - size[0]]) // 2
    return AffineTransform(matrix, size, out_size)


def packed(transform, mode):
    """The coordinates that a kernel takes."""
    if mode != "lifting":
        return fixed_point(transform).to(DEVICE)
    return Lifting.of(transform.inverse()).packed().to(DEVICE)


def case(
    generator, *, mode, padding="fill", batch=2, channels=3, size=(9, 11), out_size=(12, 8), kind="mild",
    dtype=torch.float32, out=None, masked=False, normalized=False, last=False, fill=-2.0, holes=False,
):  # fmt: skip
    """Everything that a warp takes."""
    image = torch.rand(batch, channels, *size, generator=generator)
    if not dtype.is_floating_point:
        image = image * 200
    image = image.to(dtype)
    if last:
        image = image.contiguous(memory_format=torch.channels_last)
    valid = torch.rand(batch, 1, *size, generator=generator) < 0.85 if masked else None
    if masked and dtype.is_floating_point:
        image = torch.where(valid, image, math.nan)
    if holes:
        image = torch.where(torch.rand(image.shape, generator=generator) < 0.1, math.inf, image)
    statistics = None
    if normalized:
        statistics = tuple(torch.rand(channels, generator=generator) + 0.5 for _ in range(2))
    return SimpleNamespace(
        image=image, transform=motion(kind, batch, size, out_size, generator), valid=valid, statistics=statistics,
        mode=mode, padding=padding, fill=fill, dtype=out or dtype, size=size, out_size=out_size,
    )  # fmt: skip


def there(value):
    return None if value is None else value.to(DEVICE)


def expected(given, image, transform):
    return warp_reference(
        image, transform, given.valid, mode=given.mode, padding=given.padding, fill=given.fill,
        normalize=given.statistics, dtype=given.dtype,
    )  # fmt: skip


@st.composite
def warps(draw, side, batch, channels):
    mode, padding = draw(st.sampled_from(MODES)), draw(st.sampled_from(PADDINGS))
    kinds = ("rigid",) if mode == "lifting" else ("lattice", "rigid", "mild", "extreme")
    kind = draw(st.sampled_from(kinds))
    # A small frame reflected in a far wider output has images beyond number, a loop too long for an interpreter.
    kind = "mild" if padding == "reflection" and kind == "extreme" else kind
    sides = st.integers(1, side)
    options = {
        "mode": mode,
        "padding": padding,
        "kind": kind,
        "batch": draw(st.integers(0, batch)),
        "channels": draw(st.integers(1, channels)),
        "size": (draw(sides), draw(sides)),
        "out_size": (draw(sides), draw(sides)),
        "dtype": draw(st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.uint8])),
        **{name: draw(st.booleans()) for name in ("masked", "normalized", "last")},
    }
    if options["dtype"] == torch.uint8 and (mode in ("bilinear", "bicubic") or options["normalized"]):
        options["out"] = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    options["fill"] = 3.0
    return options, draw(st.integers(0, 2**31))


def comparison(
    generator, *, batch=2, classes=3, frame=(6, 7), size=(7, 5), kinds=("mild", "mild"), dtype=torch.float32,
    last=False, masked=False, holes=False, loss="mse", softmax=True, detach=0, mask=True,
):  # fmt: skip
    """Everything that two predictions are compared with."""
    sides = []
    for kind in kinds:
        pred = torch.randn(batch, classes, *frame, generator=generator) * 3
        # Without a softmax "kl" is asked of probabilities, 0 among them.
        pred = pred if softmax or loss == "mse" else torch.rand(pred.shape, generator=generator).round(decimals=1)
        valid = torch.ones(batch, 1, *frame, dtype=torch.bool)
        if masked:
            valid = torch.rand(valid.shape, generator=generator) < 0.85
            pred = torch.where(valid, pred, math.nan)
        if holes:
            pred = torch.where(torch.rand(pred.shape, generator=generator) < 0.05, math.inf, pred)
        pred = pred.to(dtype)
        if last:
            pred = pred.contiguous(memory_format=torch.channels_last)
        sides.append(SimpleNamespace(pred=pred, valid=valid, transform=motion(kind, batch, frame, size, generator)))
    return SimpleNamespace(
        sides=sides, size=size, loss=loss, softmax=softmax, detach=detach, mask=mask,
        scale=torch.rand((), generator=generator) + 0.5,
    )  # fmt: skip


@st.composite
def comparisons(draw, side, batch, classes):
    sides = st.integers(1, side)
    kinds = st.sampled_from(("lattice", "rigid", "mild", "extreme"))
    options = {
        "batch": draw(st.integers(0, batch)),
        "classes": draw(st.integers(1, classes)),
        "frame": (draw(sides), draw(sides)),
        "size": (draw(sides), draw(sides)),
        "kinds": (draw(kinds), draw(kinds)),
        "dtype": draw(st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16])),
        "loss": draw(st.sampled_from(["mse", "kl"])),
        "detach": draw(st.integers(0, 2)),
        **{name: draw(st.booleans()) for name in ("softmax", "mask", "masked", "last")},
    }
    if options["kinds"] == ("lattice", "lattice") and options["loss"] == "mse":
        options["holes"] = draw(st.booleans())
    return options, draw(st.integers(0, 2**31))


def compile_only(kernel, grid, device, *args, tunable=True, wide=False, **constants):
    """In place of `launch`: compile for a Hopper GPU what would be started."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import mangle_type

    signature, fixed = {}, {**constants, "BLOCK_H": 16, "BLOCK_W": 32}
    for name, value in zip(kernel.arg_names, args, strict=False):
        if isinstance(value, int) and value == 1 and name not in kernel.do_not_specialize:
            fixed[name] = 1
        else:
            signature[name] = mangle_type(value)
    signature = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    options = {"enable_fp_fusion": True, "num_warps": 8 if wide else 4}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "cubin" in made.asm
    # No atomics: sums in a fixed order.
    assert "atom" not in made.asm["ptx"]
    assert "red.global" not in made.asm["ptx"]

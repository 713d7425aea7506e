"""What is measured: kinds of work, each at sizes that vary along one axis at a time."""

from dataclasses import dataclass

import torch

KINDS = ("forward", "forward+backward", "backward", "pool", "objective", "step", "trainer", "script")
TRAINING = ("step", "trainer", "script")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "uint8": torch.uint8}
Size = tuple[int, int]  # (H, W)


@dataclass(frozen=True)
class Case:
    """One piece of work.

    Args:
        kind: One of `KINDS`.
        batch: B; of training the labelled images, with half as many unlabelled ones.
        channels: C; of an objective and of training the classes.
        size: (H, W) in px of what comes out.
        dtype: Of the pixels that go in, a key of `DTYPES`; of training the precision.
        device: "cpu" or "cuda".
    """

    kind: str
    batch: int
    channels: int
    size: Size
    dtype: str
    device: str

    @property
    def name(self) -> str:
        """For example "forward 8x3x512x512 float32"."""
        return f"{self.kind} {self.shape} {self.dtype}"

    @property
    def shape(self) -> str:
        """For example "8x3x512x512"."""
        return "x".join(str(side) for side in (self.batch, self.channels, *self.size))

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.size[0] * self.size[1]


@dataclass(frozen=True)
class Scale:
    """Sizes of one run.

    Args:
        name: "full", "quick" (to try the suite) or "verify" (results alone).
        batches: B to grow through; the first is that of the size axis, which keeps memory bounded.
        channels: C to grow through.
        sizes: (H, W) to grow through.
        batch: Of the base case.
        size: Of the base case.
        step_size: (H, W) of a training step on the CPU.
        trainer_size: (H, W) of crops on the CPU where a whole run is looked at.
    """

    name: str
    batches: tuple[int, ...]
    channels: tuple[int, ...]
    sizes: tuple[Size, ...]
    batch: int
    size: Size
    step_size: Size
    trainer_size: Size


FULL = Scale(
    "full",
    (2, 4, 8, 16, 32),
    (3, 7, 13),
    ((256, 256), (512, 512), (1024, 1024)),
    batch=8,
    size=(512, 512),
    step_size=(128, 128),
    trainer_size=(256, 256),
)
QUICK = Scale(
    "quick",
    (2, 4),
    (3, 7, 13),
    ((64, 64), (128, 128)),
    batch=4,
    size=(128, 128),
    step_size=(64, 64),
    trainer_size=(128, 128),
)
VERIFY = Scale("verify", (2,), (3, 7), ((47, 56),), batch=2, size=(47, 56), step_size=(64, 64), trainer_size=(64, 64))
SCALES = {scale.name: scale for scale in (FULL, QUICK, VERIFY)}

# Channels of the base case, and all that the kind is measured with.
BASE_CHANNELS = {"objective": 7}
KIND_DTYPES = {
    "forward": ("float32", "bfloat16", "float16", "uint8"),
    "forward+backward": ("float32", "bfloat16", "float16"),
    "backward": ("float32",),
    "pool": ("uint8",),
    "objective": ("float32", "bfloat16"),
}
# The compositions that it is compared with keep some thirty maps of the predictions' size.
LARGEST_OBJECTIVE_ON_CPU = 8


def base_case(kind: str, scale: Scale, device: str) -> Case:
    """The case that figures are quoted for."""
    if kind in TRAINING:
        if device == "cuda" and scale is FULL:
            return Case(kind, 4, 6, (512, 512), "bfloat16", device)
        if kind == "step":
            return Case(kind, 4, 6, scale.step_size, "float32", device)
        return Case(kind, min(scale.batch, 4), 6, scale.trainer_size, "float32", device)
    return Case(kind, scale.batch, BASE_CHANNELS.get(kind, 3), scale.size, KIND_DTYPES[kind][0], device)


def cases_of(kind: str, scale: Scale, device: str) -> list[Case]:
    """The base case first, then those that differ from it along one axis."""
    base = base_case(kind, scale, device)
    if kind in (*TRAINING, "backward"):
        return [base]
    small = (device == "cpu" and kind == "objective") * LARGEST_OBJECTIVE_ON_CPU
    batches = [batch for batch in scale.batches if not small or batch <= small]
    channels = () if kind == "pool" else scale.channels
    shapes = [
        (base.batch, base.channels, base.size),
        *((batch, base.channels, base.size) for batch in batches),
        *((base.batch, count, base.size) for count in channels),
        *((scale.batches[0], base.channels, size) for size in scale.sizes),
    ]
    cases = [Case(kind, *shape, base.dtype, device) for shape in shapes]
    cases += [Case(kind, *shapes[0], dtype, device) for dtype in KIND_DTYPES[kind]]
    return list(dict.fromkeys(cases))

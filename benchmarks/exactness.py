"""How exact s4aug and Kornia are, measured side by side; writes the table of docs/exactness.md.

    python benchmarks/exactness.py                        # print the table
    python benchmarks/exactness.py --write docs/exactness.md

Everything is measured from outside, by what comes out of public calls, on the CPU.
"""

import argparse
import platform
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import kornia
import numpy as np
import torch
from torch import Tensor

import s4aug
from s4aug import AffineTransform, RandomAffine, View, consistency_loss, warp

PAPER = {"degrees": 15, "translate": (0.2, 0.2), "scale": (0.75, 1.25)}
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
PATCH_PX = 16


class Row(NamedTuple):
    """One line of the table."""

    what: str
    ours: str
    kornias: str


def motions(size: tuple[int, int], count: int) -> AffineTransform:
    """Draws from the paper's ranges; for frames thin as a strip ones that stay in the strip."""
    seed = torch.arange(count)
    if size[1] > 4 * size[0]:
        return s4aug.sample_affine(s4aug.AffineRanges(0.05, (0.01, 0.05), (0.95, 1.05)), count, size, seed=seed)
    return RandomAffine(**PAPER).sample(count, size, seed=seed)


# Each library as: image [B, C, H, W] and motion -> moved image; and the way back.
def our_warp(image: Tensor, motion: AffineTransform) -> Tensor:
    return warp(image, motion).image


def kornia_warp(image: Tensor, motion: AffineTransform, mode: str = "bilinear") -> Tensor:
    matrix = motion.matrix[:, :2].to(image.dtype)
    return kornia.geometry.warp_affine(image, matrix, motion.out_size, mode=mode, align_corners=True)


def kornia_augmentation(motion: AffineTransform) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Kornia's RandomAffine, and a draw of its own from the same ranges, for images of `motion`'s batch and size."""
    augmentation = kornia.augmentation.RandomAffine(15.0, (0.2, 0.2), (0.75, 1.25), p=1.0, align_corners=True)
    torch.manual_seed(0)
    return augmentation, augmentation.forward_parameters((len(motion), 1, *motion.size))


def coordinate_error(size: tuple[int, int], count: int, autocast: bool) -> tuple[float, float]:
    """There and back, px: ramps around places in the frame, which bilinear sampling shows without error."""
    context = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    ramp, near = ramps(size)
    worst = [0.0, 0.0]
    for motion in motions(size, count):
        seen = warp(ramp[:, :1], motion)
        kept = warp(seen.image, motion.inverse(), valid=seen.valid).valid[:, 0]
        compared = near & kept  # [places, H, W]
        with context:
            ours = our_warp(our_warp(ramp, motion), motion.inverse())
            theirs = kornia_warp(kornia_warp(ramp, motion), motion.inverse())
        for i, result in enumerate((ours, theirs)):
            error = (result.double() - ramp).abs().unflatten(1, (-1, 2)).amax(2)[0]  # [places, H, W]
            worst[i] = max(worst[i], float(error[compared].max()))
    return worst[0], worst[1]


def ramps(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(x - x0, y - y0) for five places, cut off beyond 4 patches, [1, 2 * 5, H, W]; and the patches [5, H, W]."""
    height, width = size
    x, y = torch.arange(width), torch.arange(height)[:, None]
    places = [(round(a * width), round(b * height)) for a in (0.2, 0.8) for b in (0.2, 0.8)] + [
        (width // 2, height // 2)
    ]
    offsets = torch.stack(
        [torch.stack([(x - at_x).expand(size), (y - at_y).expand(size)]) for at_x, at_y in places]
    ).float()
    patch = min(PATCH_PX, height // 8)
    return offsets.clamp(-4 * PATCH_PX, 4 * PATCH_PX).flatten(0, 1)[None], (offsets.abs() <= patch).all(1)


def lattice_moves() -> tuple[str, str]:
    """Flips, quarter turns, their products and shifts; how many return the expected bits."""
    values = torch.randint(0, 255, (1, 2, 13, 18), generator=torch.Generator().manual_seed(0))
    images = [values.to(dtype) for dtype in (torch.float32, torch.bfloat16, torch.uint8, torch.int64)]
    holes = values.float()
    holes[..., ::3, ::4] = torch.nan
    cases = [(image, *case) for image in (*images, holes) for case in expected_moves(image)]
    kept = [0, 0]
    for image, move, expected in cases:
        mode = "bilinear" if image.is_floating_point() else "nearest"
        kept[0] += same_bits(warp(image, move, mode=mode).image, expected)
        try:
            kept[1] += same_bits(kornia_warp(image, move, mode), expected)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            continue  # a type that Kornia does not take
    return f"{kept[0]} of {len(cases)}", f"{kept[1]} of {len(cases)}"


def expected_moves(image: Tensor) -> Iterator[tuple[AffineTransform, Tensor]]:
    size = (image.shape[-2], image.shape[-1])
    for k in range(4):
        turn = AffineTransform.rot90(k, 1, size)
        yield turn, torch.rot90(image, k, (2, 3))
        yield AffineTransform.hflip(1, turn.out_size) @ turn, torch.rot90(image, k, (2, 3)).flip(3)
    for right, down in ((3, 0), (0, -2), (-5, 4)):
        moved = torch.roll(image, (down, right), (2, 3))
        rows, columns = torch.arange(size[0])[:, None] - down, torch.arange(size[1]) - right
        inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
        yield AffineTransform.shift(torch.tensor([[right, down]]), size), torch.where(inside, moved, 0)


def same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


def lifting() -> tuple[Row, Row]:
    """Labels there and back by lifting; Kornia has nearest neighbours for that."""
    size, angles = (101, 101), torch.arange(-180.0, 180.0, 5.0)
    labels = torch.randint(0, 6, (1, 1, *size), generator=torch.Generator().manual_seed(0)).expand(
        len(angles), 1, *size
    )
    motion = AffineTransform.from_params(angle=angles, size=size)
    there = View.of(labels, motion, mode="lifting")
    back = there.restore(there.image)
    changed = [int(((back.image != labels) & back.valid).sum())]
    theirs = kornia_warp(kornia_warp(labels.float(), motion, "nearest"), motion.inverse(), "nearest")
    changed.append(int(((theirs != labels) & back.valid).sum()))
    x, y = torch.meshgrid(torch.arange(size[1]), torch.arange(size[0]), indexing="xy")
    places = torch.stack([x, y]).double().expand(len(angles), 2, *size)
    went = View.of(places, motion, mode="lifting")
    true = motion.inverse().points(places.flatten(2).mT).mT.unflatten(2, size)
    far = float((went.image - true).norm(dim=1)[went.valid[:, 0]].max())
    pixels = int(back.valid.sum())
    return (
        Row(
            f"Labels changed there and back inside the mask, of {pixels:,}; by lifting, Kornia by nearest",
            f"{changed[0]:,}",
            f"{changed[1]:,}",
        ),
        Row("Largest distance of a lifted pixel from the true map, px", f"{far:.2f}", "no such mode"),
    )


def validity() -> tuple[str, str]:
    """Pixels whose validity is not that of the float64 truth; Kornia: a warped mask of ones, best of two thresholds."""
    size = (257, 321)
    motion = motions(size, 16)
    matrices = np.linalg.inv(motion.matrix.numpy())
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    seen = np.einsum("bij,jhw->bihw", matrices, np.stack([x, y, np.ones_like(x)]))[:, :2]
    inside = (seen[:, 0] >= 0) & (seen[:, 0] <= size[1] - 1) & (seen[:, 1] >= 0) & (seen[:, 1] <= size[0] - 1)
    truth = torch.from_numpy(inside)
    ones = torch.ones(16, 1, *size)
    ours = int((warp(ones, motion).valid[:, 0] != truth).sum())
    theirs = kornia_warp(ones, motion)[:, 0]
    missed = min(int(((theirs > limit) != truth).sum()) for limit in (0.5, 0.999))
    return f"{ours:,} of {truth.numel():,}", f"{missed:,} of {truth.numel():,}"


def stride_four_undo() -> tuple[float, float]:
    """A map at stride 4 that tells where each of its cells lies in the source; undone it must tell its own place."""
    size, cells = (512, 512), 128
    places = torch.arange(cells).double() * 4 + 1.5
    x, y = torch.meshgrid(places, places, indexing="xy")
    true = torch.stack([x, y])
    motion = motions(size, 4)
    images = torch.rand(4, 1, *size)
    told = motion.inverse().points(true.flatten(1).T.expand(4, -1, -1)).mT.unflatten(2, (cells, cells))
    # Told from the middle, so that float32 has digits to spare.
    back = View.of(images, motion).restore((told - 256).float())
    error = (back.image.double() + 256 - true).abs().amax(1)
    ours = float(error[back.valid[:, 0]].max())
    augmentation, params = kornia_augmentation(motion)
    augmentation(images, params=params)
    inverse = torch.linalg.inv(augmentation.transform_matrix.double())
    seen = torch.nn.functional.pad(true.flatten(1), (0, 0, 0, 1), value=1.0)
    told = (inverse @ seen)[:, :2].unflatten(2, (cells, cells))
    undone = augmentation.inverse((told - 256).float(), params=params)
    shown = augmentation.inverse(torch.ones(4, 1, cells, cells), params=params) > 0.999
    missed = (undone.double() + 256 - true).abs().amax(1)
    return ours, float(missed[shown[:, 0]].max())


def identity_loss() -> tuple[float, float]:
    """The consistency loss (Eq. 4) of a network that changes nothing, on a smooth image; it should be 0."""
    size = (256, 256)
    wave = torch.sin(torch.arange(256) / 20)
    logits = (2 * torch.stack([wave[:, None] + wave, wave[:, None] - wave, wave[:, None] * wave]))[None].repeat(
        4, 1, 1, 1
    )
    first, second = motions(size, 8)[:4], motions(size, 8)[4:]
    views = View.of(logits, first), View.of(logits, second)
    ours = float(consistency_loss(views[0].image, views[0], views[1].image, views[1]))
    undone = [kornia_warp(kornia_warp(logits, m).softmax(1), m.inverse()) for m in (first, second)]
    return ours, float(((undone[0] - undone[1]) ** 2).mean())


def graph_breaks() -> tuple[int, int]:
    """Breaks in the graph that torch.compile makes of sample, warp, restore and loss."""
    ours = RandomAffine(**PAPER)
    theirs = kornia.augmentation.RandomAffine(15.0, (0.2, 0.2), (0.75, 1.25), p=1.0)

    def our_loss(images: Tensor, seed: Tensor) -> Tensor:
        one, other = ours(images, seed=seed), ours(images, seed=seed + 1)
        return consistency_loss(one.image, one, other.image, other)

    def kornia_loss(images: Tensor, seed: Tensor) -> Tensor:
        one = theirs.inverse(theirs(images).softmax(1))
        other = theirs.inverse(theirs(images).softmax(1))
        return ((one - other) ** 2).mean()

    counts = []
    for loss in (our_loss, kornia_loss):
        torch._dynamo.reset()
        counts.append(torch._dynamo.explain(loss)(torch.rand(2, 3, 32, 32), torch.arange(2)).graph_break_count)
    return counts[0], counts[1]


def rows() -> list[Row]:
    """The whole table."""
    table = []
    for side, size, count in ((512, (512, 512), 4), (2448, (2448, 2448), 3), (16384, (128, 16384), 2)):
        for autocast, name in ((False, "float32"), (True, "bf16 autocast")):
            strip = "" if size[0] == size[1] else f" (strip {size[0]} px high)"
            ours, theirs = coordinate_error(size, count, autocast)
            table.append(
                Row(f"Coordinates there and back at {side}{strip}, {name}, px", f"{ours:.1e}", f"{theirs:.1e}")
            )
    table.append(Row("Lattice moves with the expected bits (float32, bf16, uint8, int64, NaN)", *lattice_moves()))
    table.extend(lifting())
    table.append(Row("Pixels with wrong validity", *validity()))
    table.append(Row("A stride-4 map undone, largest error, px", *(f"{error:.1e}" for error in stride_four_undo())))
    table.append(Row("S4Net loss of the identity network", *(f"{loss:.1e}" for loss in identity_loss())))
    table.append(Row("Graph breaks, sample to loss", *(str(count) for count in graph_breaks())))
    return table


def markdown(table: list[Row]) -> str:
    """The table, and with what it was measured."""
    header = Row("", f"s4aug {s4aug.__version__}", f"Kornia {kornia.__version__}")
    lines = [f"| {' | '.join(row)} |" for row in (header, Row("---", "---:", "---:"), *table)]
    versions = f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"Measured with {versions} on a CPU ({platform.machine()})."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    page = parser.parse_args().write
    warnings.simplefilter("ignore", DeprecationWarning)
    text = markdown(rows())
    print(text)
    if page is not None:
        before, rest = page.read_text().split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()

"""The diagrams of docs/conventions.md as SVG. What they show is computed by the library, not drawn by hand."""

from collections.abc import Iterator

import torch
from kornia.augmentation import RandomAffine as KorniaRandomAffine
from sketch import BLUE, GREY, INK, ORANGE, PALE, PURPLE, Point, Sketch
from torch import Tensor

from s4aug import AffineTransform, warp
from s4aug.transform import cell_bounds

MODES = ("nearest", "bilinear", "bicubic", "lifting")
LETTER = [(0.3, 0.8), (0.3, 0.2), (0.7, 0.2), (0.7, 0.32), (0.44, 0.32), (0.44, 0.46), (0.6, 0.46), (0.6, 0.58)]
LETTER += [(0.44, 0.58), (0.44, 0.8)]


class Frame:
    """A grid of pixels in a sketch; pixel (0, 0) has its centre at `origin`."""

    def __init__(self, sketch: Sketch, left: float, top: float, size: tuple[int, int], pixel: float) -> None:
        self.sketch, self.size, self.pixel = sketch, size, pixel
        self.origin = (left + pixel / 2, top + pixel / 2)

    def at(self, x: float, y: float) -> Point:
        """Where a point of the frame is in the sketch."""
        return self.origin[0] + x * self.pixel, self.origin[1] + y * self.pixel

    def cell(self, x: int, y: int, fill: str = "white", opacity: float = 1) -> None:
        """One pixel."""
        self.sketch.box(*self.at(x - 0.5, y - 0.5), (self.pixel, self.pixel), fill, "#cccccc", opacity)

    def pixels(self) -> Iterator[tuple[int, int]]:
        """All (x, y)."""
        return ((x, y) for y in range(self.size[0]) for x in range(self.size[1]))

    def centres(self) -> None:
        """Empty pixels with a dot at each centre, and the axes."""
        for x, y in self.pixels():
            self.cell(x, y)
            self.sketch.dot(self.at(x, y), GREY, 1.5)
        for x in range(self.size[1]):
            self.sketch.text((self.at(x, 0)[0], self.at(0, -0.75)[1]), str(x), 11, GREY)
        for y in range(self.size[0]):
            self.sketch.text((self.at(-0.8, 0)[0], self.at(0, y)[1] + 4), str(y), 11, GREY)


def go(transform: AffineTransform, *points: Point) -> list[Point]:
    """Points moved by the first transform of a batch."""
    moved = transform[0].points(torch.tensor(points, dtype=torch.float64)[None])[0]
    return [(x, y) for x, y in moved.tolist()]


def matrix_diagram() -> str:
    """A source and an output frame: where a source pixel goes, and where an output pixel looks."""
    size, pixel = (5, 6), 36.0
    motion = AffineTransform.from_params(angle=20.0, translation=(0.3, 0.2), size=size)
    sketch = Sketch(720, 330)
    source, output = Frame(sketch, 50, 70, size, pixel), Frame(sketch, 450, 70, size, pixel)
    for frame, name in ((source, "source frame, size = (5, 6)"), (output, "output frame, out_size = (5, 6)")):
        frame.centres()
        sketch.text((frame.at(2.5, 0)[0], 24), name, 14)
        sketch.text((frame.at(5.85, 0)[0], frame.at(0, -0.75)[1]), "x", 13)
        sketch.text((frame.at(-0.8, 0)[0], frame.at(0, 4.9)[1]), "y", 13)
    start, looking = (1.0, 1.0), (4.0, 3.0)
    (end,), (seen,) = go(motion, start), go(motion.inverse(), looking)
    column, row = int(seen[0]), int(seen[1])
    for x, y in ((column, row), (column + 1, row), (column, row + 1), (column + 1, row + 1)):
        source.cell(x, y, ORANGE, 0.25)
    sketch.dot(source.at(*start), BLUE)
    sketch.line(source.at(*start), output.at(*end), BLUE, arrow=True)
    sketch.cross(output.at(*end), BLUE)
    sketch.dot(output.at(*looking), ORANGE)
    sketch.line(output.at(*looking), source.at(*seen), ORANGE, arrow=True)
    sketch.cross(source.at(*seen))
    told = [f"({x:.2f}, {y:.2f})" for x, y in (end, seen)]
    sketch.text((360, 296), f"matrix: pixel (1, 1) goes to {told[0]}", 14, BLUE)
    sketch.text((360, 318), f"inverse: output pixel (4, 3) shows the source at {told[1]}", 14, ORANGE)
    return sketch.svg()


def rotation_diagram() -> str:
    """A letter, turned by 30 degrees here and by Kornia's RandomAffine."""
    side, top = 180, 34
    turn = AffineTransform.from_params(angle=30.0, size=(side, side))
    theirs = KorniaRandomAffine((30.0, 30.0), p=1.0)
    theirs(torch.zeros(1, 1, side, side))
    still = AffineTransform.identity(1, (side, side))
    kornias = AffineTransform(theirs.transform_matrix, (side, side))
    panels = [("source", still), ("s4aug, angle=30", turn), ("kornia RandomAffine, angle 30", kornias)]
    sketch = Sketch(3 * side + 160, side + 60)
    for i, (name, motion) in enumerate(panels):
        left = 40 + i * (side + 40)
        sketch.box(left, top, (side, side), PALE)
        letter = go(motion, *[(x * side, y * side) for x, y in LETTER])
        sketch.shape([(left + x, top + y) for x, y in letter], BLUE if i < 2 else GREY, "none")
        sketch.dot((left + side / 2, top + side / 2), INK, 2.5)
        sketch.text((left + side / 2, 20), name, 13)
    return sketch.svg()


def cells_diagram() -> str:
    """The pixels that the cells of a stride-4 map stand for, by default and with offset 0."""
    pixel, left, count, stride = 44.0, 90.0, 12, 4
    sketch = Sketch(left + count * pixel + 30, 300)
    for top, offset, name in ((40, 1.5, "default"), (180, 0.0, "offset=0")):
        row = Frame(sketch, left, top, (1, count), pixel)
        sketch.text((10, row.at(0, 0)[1] + 4), name, 14, anchor="start")
        first, stop = cell_bounds(count, count // stride, stride, offset)
        for x in range(count):
            row.cell(x, 0, PALE)
            sketch.text(row.at(x, -0.7), str(x), 11, GREY)
        for i, (low, high) in enumerate(zip(first.tolist(), stop.tolist(), strict=True)):
            colour, y = (BLUE, ORANGE, PURPLE)[i], top + pixel + 12 + 16 * (i % 2 if offset == 0 else 0)
            sketch.dot(row.at(offset + stride * i, 0), colour, 5)
            ends = row.at(low - 0.45, 0)[0], row.at(high - 0.55, 0)[0]
            sketch.line((ends[0], y), (ends[1], y), colour)
            for end in ends:
                sketch.line((end, y - 5), (end, y + 5), colour)
            words = f"cell {i} at {offset + stride * i:g}, pixels {low} to {high - 1}"
            sketch.text((sum(ends) / 2, y + 18 + (16 if offset == 0 and i % 2 == 0 else 0)), words, 12, colour)
    return sketch.svg()


def weights(motion: AffineTransform, looking: tuple[int, int], mode: str) -> Tensor:
    """The weight of each source pixel in one output pixel, [H, W]: what unit impulses leave there."""
    height, width = motion.size
    impulses = torch.eye(height * width).reshape(1, -1, height, width)
    shown = warp(impulses, motion, mode=mode).image[0, :, looking[1], looking[0]]
    return shown.reshape(height, width)


def footprints_diagram() -> str:
    """Above: what one output pixel reads in each mode. Below: which output pixels are valid."""
    side, wide, length, gap = 7, 11, 210.0, 26.0
    turn = AffineTransform.from_params(angle=25.0, translation=(-0.1, 0.3), size=(side, side))
    motion = AffineTransform.crop(torch.tensor([-2]), torch.tensor([-2]), (wide, wide), (side, side)) @ turn
    looking = (4, 5)
    (seen,) = go(motion.inverse(), looking)
    outer, hull = ([(low, low), (high, low), (high, high), (low, high)] for low, high in ((-0.5, 6.5), (0.0, 6.0)))
    sketch = Sketch(4 * (length + gap) + gap, 578)
    sketch.text(
        (gap, 56), f"Source: the weights in output pixel {looking}. The cross is where it looks.", anchor="start"
    )
    sketch.text((gap, 316), "Output: white pixels are valid.", anchor="start")
    for i, mode in enumerate(MODES):
        left = gap + i * (length + gap)
        sketch.text((left + length / 2, 26), mode, 16)
        source = Frame(sketch, left, 66, (side, side), length / side)
        output = Frame(sketch, left, 326, (wide, wide), length / wide)
        shares = {(x, y): float(weights(motion, looking, mode)[y, x]) for x, y in source.pixels()}
        for pixel, share in shares.items():
            fill = (BLUE if share > 0 else ORANGE) if share else "white"
            source.cell(*pixel, fill, 0.15 + 0.6 * abs(share) if share else 1)
        sketch.cross(source.at(*seen), INK)
        for (x, y), share in shares.items():
            if share:
                label = f"{share:.2f}".replace("0.", ".").replace("-", "−").replace("1.00", "1")
                sketch.text((source.at(x, y)[0], source.at(x, y)[1] - 5), label, 10)
        valid = warp(torch.ones(1, 1, side, side), motion, mode=mode).valid[0, 0]
        for x, y in output.pixels():
            output.cell(x, y, "white" if valid[y, x] else PURPLE)
        sketch.shape([output.at(*corner) for corner in go(motion, *outer)], stroke=ORANGE)
        sketch.shape([output.at(*corner) for corner in go(motion, *hull)], stroke=BLUE, dashed=True)
    told = "Orange: the outer edge of the source, moved. Dashed blue: the hull of its pixel centres, moved."
    sketch.text((gap, 562), told, anchor="start")
    return sketch.svg()


DIAGRAMS = {
    "matrix.svg": matrix_diagram,
    "rotation.svg": rotation_diagram,
    "cells.svg": cells_diagram,
    "footprints.svg": footprints_diagram,
}

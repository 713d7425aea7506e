"""A picture of what a perturbation does to crops: two views, what is real in them, and both undone."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from s4aug import View

from .data.normalization import Normalization
from .data.palette import ClassTable
from .data.pool import Crops
from .model import at_size

ROWS = 4  # crops shown at most
CELL_PX = 192  # about the side of a crop in the picture
GAP_PX, GROUP_GAP_PX, EDGE_PX = 4, 16, 12
LINE_PX, FONT_PX = 24, 16
PAPER, INK = (255, 255, 255), (40, 40, 40)
REAL = (52, 73, 94)  # in a mask
# What is not real is grey with stripes wherever it is: no class is drawn so.
GREY, STRIPE = (226, 226, 226), (200, 200, 200)
STRIPE_PX = 8
# From black over red to yellow, for 0 to 1.
HEAT = ((8, 8, 20), (90, 16, 110), (190, 50, 85), (248, 140, 40), (252, 250, 160))


class Column(NamedTuple):
    """One kind of picture, of each crop."""

    caption: str
    colors: np.ndarray  # [B, h, w, 3] uint8
    valid: np.ndarray  # [B, h, w] bool
    smooth: bool = False  # colours may be averaged where the picture is smaller than the crop


def draw_panel(
    crops: Crops,
    views: tuple[View, View],
    normalization: Normalization,
    *,
    classes: ClassTable | None = None,
    predictions: tuple[Tensor, Tensor] | None = None,  # each [B, K, h', w']
) -> np.ndarray:
    """Draw crops and their views, a row for each of the first four crops.

    Convention:
        What is undone lies in the crop's frame, as the crop lies in the tile. The disagreement of two predictions is
        half the sum of the differences of their probabilities: 0 where they are the same, 1 where they exclude each
        other.

    Args:
        crops: As they lie in the tiles. 8-bit pixels are shown as they are, others stretched from the 2nd to the
            98th percentile of each band; of more than three bands the first three, of two the first.
        views: Two views of the crops, normalised.
        normalization: Of the views.
        classes: Names and colours, for predictions.
        predictions: Logits for the views, at their size or a stride of it.

    Returns:
        [H, W, 3] uint8.
    """
    crops, first, second = _shown(crops), _first_rows(views[0]), _first_rows(views[1])
    groups = _view_columns(crops, (first, second), normalization)
    if predictions is None or classes is None:
        return _drawn(groups, [])
    groups.append(_prediction_columns((first, second), predictions, classes))
    return _drawn(groups, list(zip(classes.names, classes.colors, strict=True)))


def _shown(crops: Crops) -> Crops:
    """The first crops, without what lies around them."""
    (height, width), margin = crops.size, crops.margin
    frame = (slice(ROWS), slice(None), slice(margin, margin + height), slice(margin, margin + width))
    valid = None if crops.valid is None else crops.valid[frame]
    return Crops(crops.images[frame], valid, None, crops.ids[:ROWS])


def _first_rows(view: View) -> View:
    return View(view.image[:ROWS], view.valid[:ROWS], view.transform[:ROWS], view.mode)


def _view_columns(crops: Crops, views: tuple[View, View], normalization: Normalization) -> list[list[Column]]:
    """What is seen without a network."""
    contrast = Contrast.of(crops)
    mean, std = (
        torch.tensor(part, dtype=torch.float32, device=crops.images.device)[:, None, None]
        for part in (normalization.mean, normalization.std)
    )
    valid = torch.ones_like(crops.images[:, :1], dtype=torch.bool) if crops.valid is None else crops.valid
    undone = [view.restore(view.image) for view in views]
    both = undone[0].valid & undone[1].valid
    return [
        [Column("crop", contrast.colors(crops.images), _mask(valid), smooth=True)],
        [
            Column(f"view {i}", contrast.colors(view.image * std + mean), _mask(view.valid), smooth=True)
            for i, view in enumerate(views, 1)
        ],
        [_mask_column(f"valid {i}", view.valid) for i, view in enumerate(views, 1)],
        [
            Column(f"undone {i}", contrast.colors(back.image * std + mean), _mask(back.valid), smooth=True)
            for i, back in enumerate(undone, 1)
        ]
        + [_mask_column("compared", both)],
    ]


def _prediction_columns(
    views: tuple[View, View], predictions: tuple[Tensor, Tensor], classes: ClassTable
) -> list[Column]:
    """Both predictions undone, and where they disagree."""
    undone = [
        view.restore(at_size(logits[:ROWS].float(), view.transform.out_size).softmax(1))
        for view, logits in zip(views, predictions, strict=True)
    ]
    palette = np.array(classes.colors, dtype=np.uint8)
    columns = [
        Column(f"prediction {i}", palette[back.image.argmax(1).cpu().numpy()], _mask(back.valid))
        for i, back in enumerate(undone, 1)
    ]
    distance = (undone[0].image - undone[1].image).abs().sum(1) / 2  # [B, h, w]
    both = undone[0].valid & undone[1].valid
    return [*columns, Column("disagreement", heat(distance.cpu().numpy()), _mask(both), smooth=True)]


def _mask(valid: Tensor) -> np.ndarray:  # [B, 1, h, w] -> [B, h, w]
    mask: np.ndarray = valid[:, 0].cpu().numpy()
    return mask


def _mask_column(caption: str, valid: Tensor) -> Column:
    mask = _mask(valid)
    return Column(caption, np.broadcast_to(np.array(REAL, np.uint8), (*mask.shape, 3)), mask)


def heat(values: np.ndarray) -> np.ndarray:  # [...] -> [..., 3]
    """Colours of values from 0 to 1."""
    stops = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(values, stops, channel) for channel in zip(*HEAT, strict=True)]
    return np.stack(channels, -1).round().astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Contrast:
    """Which bands are shown, and the values that are black and full.

    Args:
        low: By shown band, in units of the source.
        high: The same.
    """

    low: np.ndarray  # [1 or 3]
    high: np.ndarray  # [1 or 3]

    @classmethod
    def of(cls, crops: Crops) -> "Contrast":
        """Of the real pixels of a batch."""
        bands = 3 if crops.images.shape[1] >= 3 else 1
        if crops.images.dtype == torch.uint8:
            return cls(np.zeros(bands), np.full(bands, 255.0))
        values = crops.images[:, :bands].cpu().numpy().swapaxes(0, 1).reshape(bands, -1).astype(np.float64)
        real = np.isfinite(values)
        if crops.valid is not None:
            real &= _mask(crops.valid).ravel()
        known = [band[there] for band, there in zip(values, real, strict=True)]
        low, high = np.array([np.percentile(band, (2, 98)) if band.size else (0.0, 1.0) for band in known]).T
        return cls(low, np.where(high > low, high, low + 1))

    def colors(self, images: Tensor) -> np.ndarray:  # [B, C, h, w] -> [B, h, w, 3]
        """Pixels in units of the source, as they are shown."""
        values = np.moveaxis(images[:, : len(self.low)].cpu().numpy().astype(np.float32), 1, -1)
        unit = np.nan_to_num((values - self.low) / (self.high - self.low)).clip(0, 1)
        return np.broadcast_to((unit * 255).round().astype(np.uint8), (*unit.shape[:-1], 3))


def _drawn(groups: list[list[Column]], legend: list[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """Columns side by side, each under its caption, and what the colours mean below."""
    columns = [column for group in groups for column in group]
    factor = _factor(max(max(column.colors.shape[1:3]) for column in columns))
    grid = [[_cell(column, row, factor) for row in range(len(column.colors))] for column in columns]
    height, width = (max(cell.shape[axis] for column in grid for cell in column) for axis in (0, 1))
    lefts = _lefts(groups, width)
    bottom = EDGE_PX + LINE_PX + len(grid[0]) * (height + GAP_PX)
    canvas = Image.new("RGB", (lefts[-1] + width + EDGE_PX, bottom + EDGE_PX), PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_PX)
    for column, cells, left in zip(columns, grid, lefts, strict=True):
        pen.text((left, EDGE_PX), column.caption, INK, font)
        for row, cell in enumerate(cells):
            top = EDGE_PX + LINE_PX + row * (height + GAP_PX)
            canvas.paste(Image.fromarray(cell), (left, top))
            # A white class would run into the paper.
            pen.rectangle((left - 1, top - 1, left + cell.shape[1], top + cell.shape[0]), outline=STRIPE)
    return np.concatenate([np.asarray(canvas), _legend(legend, canvas.width)])


def _factor(side: int) -> float:
    """How many pixels of the picture a pixel is: a whole number, or less than one."""
    return max(1, round(CELL_PX / side)) if side <= CELL_PX else CELL_PX / side


def _lefts(groups: list[list[Column]], width: int) -> list[int]:
    """Where each column begins, px."""
    lefts, left = [], EDGE_PX
    for group in groups:
        for _ in group:
            lefts.append(left)
            left += width + GAP_PX
        left += GROUP_GAP_PX - GAP_PX
    return lefts


def _cell(column: Column, row: int, factor: float) -> np.ndarray:  # [h, w, 3]
    """One picture at its size, striped where it is not real."""
    height, width = (max(1, round(side * factor)) for side in column.colors.shape[1:3])
    how = Image.Resampling.BOX if column.smooth and factor < 1 else Image.Resampling.NEAREST
    colors = np.asarray(Image.fromarray(np.ascontiguousarray(column.colors[row])).resize((width, height), how))
    valid = np.asarray(Image.fromarray(column.valid[row]).resize((width, height), Image.Resampling.NEAREST))
    return np.where(valid[..., None], colors, stripes(height, width))


def stripes(height: int, width: int) -> np.ndarray:  # [h, w, 3]
    """What is drawn where nothing is real."""
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % STRIPE_PX < STRIPE_PX // 4
    return np.where(diagonal[..., None], np.array(STRIPE, np.uint8), np.array(GREY, np.uint8))


def _legend(classes: list[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """What stripes, classes and heat mean, in as many lines as it takes."""
    side = FONT_PX
    swatches = [("not valid", stripes(side, side))]
    swatches += [(name, np.broadcast_to(np.array(color, np.uint8), (side, side, 3))) for name, color in classes]
    if classes:
        scale = np.broadcast_to(heat(np.linspace(0, 1, 5 * side)), (side, 5 * side, 3))
        swatches.append(("disagreement, 0 to 1", scale))
    font = ImageFont.load_default(FONT_PX)
    places, (left, top) = [], (EDGE_PX, 0)
    for name, swatch in swatches:
        taken = swatch.shape[1] + 6 + int(font.getlength(name))
        if left + taken > width - EDGE_PX and left > EDGE_PX:
            left, top = EDGE_PX, top + LINE_PX
        places.append((left, top))
        left += taken + GROUP_GAP_PX
    canvas = Image.new("RGB", (width, top + LINE_PX + EDGE_PX), PAPER)
    pen = ImageDraw.Draw(canvas)
    for (name, swatch), (left, top) in zip(swatches, places, strict=True):
        canvas.paste(Image.fromarray(np.ascontiguousarray(swatch)), (left, top))
        pen.rectangle((left, top, left + swatch.shape[1] - 1, top + side - 1), outline=STRIPE)
        pen.text((left + swatch.shape[1] + 6, top + side // 2), name, INK, font, anchor="lm")
    return np.asarray(canvas)

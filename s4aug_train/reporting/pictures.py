"""Tiles, labels and entropies as small pictures within a page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..data.cache import Tile
from ..data.palette import IGNORE
from ..data.pool import Crops
from ..panels import Contrast, heat, stripes
from .words import tile_name

SIDE_PX = 320  # of a picture at most
QUALITY = 80  # of JPEG


@dataclass(frozen=True)
class Picture:
    """A picture as it stands in a page.

    Args:
        uri: `data:` with all of it.
        size: (W, H) in px.
        text: What it shows, for those who do not see it.
    """

    uri: str
    size: tuple[int, int]
    text: str


def image_picture(tile: Tile) -> Picture:
    """A tile as it is, in the colours of `panels.Contrast`, striped where it is not real."""
    # Large tiles are thinned before they are averaged: a raster need not be read whole for a thumbnail.
    step = max(1, max(tile.size) // (4 * SIDE_PX))
    image = torch.from_numpy(np.array(tile.image[:, ::step, ::step]))[None]
    valid = np.ones(image.shape[-2:], bool) if tile.valid is None else np.asarray(tile.valid[::step, ::step])
    crops = Crops(image, torch.from_numpy(np.array(valid))[None, None], None, (tile.id,))
    colors = Contrast.of(crops).colors(image)[0]
    return _picture(colors, valid, f"{tile_name(tile.id, 'Tile')} as it is", smooth=True)


def label_picture(
    labels: np.ndarray,  # [H, W] uint8
    classes: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    what: str,
) -> Picture:
    """Labels in the colours of their classes, striped where they are 255.

    Args:
        labels: Class by pixel; 255 where unknown or not real.
        classes: Names.
        colors: Of the classes.
        what: What the labels are.
    """
    known = labels != IGNORE
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    return _picture(palette[labels], known, f"{what}: {_shares(labels[known], classes)}", smooth=False)


def heat_picture(values: np.ndarray, valid: np.ndarray, what: str) -> Picture:  # each [H, W]
    """Numbers from 0 to 1 in the colours of `panels.heat`, striped where they are not real."""
    return _picture(heat(values), valid, what, smooth=True)


def _shares(labels: np.ndarray, classes: Sequence[str]) -> str:
    """The classes that make up at least one in a hundred, the most frequent first."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))[: len(classes)]
    order = [int(index) for index in counts.argsort()[::-1] if counts[index] >= max(1, 0.01 * labels.size)]
    return ", ".join(f"{classes[i]} {100 * counts[i] / labels.size:.0f} %" for i in order) or "nothing known"


def _picture(colors: np.ndarray, valid: np.ndarray, text: str, *, smooth: bool) -> Picture:  # [H, W, 3], [H, W]
    height, width = _size(*valid.shape)
    how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    shown = np.asarray(Image.fromarray(np.ascontiguousarray(colors)).resize((width, height), how))
    real = np.asarray(Image.fromarray(valid).resize((width, height), Image.Resampling.NEAREST))
    shown = np.where(real[..., None], shown, stripes(height, width))
    content, kind = io.BytesIO(), "jpeg" if smooth else "png"
    Image.fromarray(shown).save(content, kind, **({"quality": QUALITY} if smooth else {"optimize": True}))
    uri = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
    return Picture(uri, (width, height), text)


def _size(height: int, width: int) -> tuple[int, int]:
    """The size of a picture: no side longer than `SIDE_PX`, none below 1 px."""
    factor = min(1.0, SIDE_PX / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
